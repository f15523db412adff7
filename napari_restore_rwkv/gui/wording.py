"""The panels' wording for the steps of a job, and for its errors."""

from __future__ import annotations

from ..errors import RestoreError, sentence_of_system
from ..progress import Phase, Progress

# Steps that restore nothing; their detail counts what is checked.
CHECKS = (Phase.CHECKING, Phase.COMPARING_INPUT, Phase.STAGING)


def words_of(progress: Progress) -> str:
    """Describe a step in a few words, such as "checking what is saved: 3 of 10"."""
    match progress.phase:
        case Phase.CHECKING:
            return f"checking what is saved: {progress.detail}"
        case Phase.COMPARING_INPUT:
            return f"comparing the scan with what is saved: {progress.detail}"
        case Phase.STAGING:
            return f"preparing the scan for the workers: {progress.detail}"
        case Phase.WORKERS_LOST | Phase.CONNECTED:
            return progress.detail
        case Phase.UNPACKING:
            return f"unpacking {progress.detail}: slice {progress.done} of {progress.total}"
        case Phase.WRITING | Phase.READING_BACK:
            return f"{progress.phase.value}, {100 * progress.done // max(1, progress.total)} %"
        case _:
            return f"slice {min(progress.done + 1, progress.total)} of {progress.total}"


def sentence_of(error: Exception) -> str:
    """Return the sentence to show for an error: the plugin's own message, one of the system in words, or its type."""
    if isinstance(error, RestoreError):
        return error.message("press Restore again")
    if isinstance(error, OSError):
        return sentence_of_system(error)
    words = " ".join(str(error).split()) or "no further details"
    return f"This stopped with an unexpected {type(error).__name__}: {words}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.1f} days"
