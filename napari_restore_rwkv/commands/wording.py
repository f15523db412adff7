"""The command line's wording for the steps of a job, and for how to resume one."""

from __future__ import annotations

from ..progress import Phase, Progress

# How to resume a stopped job here.
RESUME = "give the same command with --resume"
_WORDS = {
    Phase.COMPARING_PRECISION: "comparing with float32",
    Phase.SAVED: "slab saved",
    Phase.CHECKING: "checking what is saved",
    Phase.COMPARING_INPUT: "comparing the input with what is saved",
    Phase.UNPACKING: "unpacking",
    Phase.EXAMINING: "examining the values",
    Phase.WRITING: "writing",
    Phase.READING_BACK: "reading back",
    Phase.MEASURING: "measuring",
}


def words_of(progress: Progress) -> str:
    """Describe a step in a few words."""
    if progress.phase in _WORDS:
        return f"{_WORDS[progress.phase]} {progress.detail}".rstrip()
    if progress.detail:
        return progress.detail
    return f"slice {min(progress.done + (progress.region is None), progress.total)} of {progress.total}"
