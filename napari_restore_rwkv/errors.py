"""Errors whose text is meant for the user.

Every message is one sentence or two: what came, what is allowed, what to do. The viewer and the command line show it as
it is, except that each has its own wording for how to resume a stopped job. None of these derives from RuntimeError, so
a broad handler around torch never swallows one.
"""

import os

_IN_PYTHON = "give the same call with resume=True"


class RestoreError(Exception):
    """Something that the user can fix; its text says how.

    Parameters
    ----------
    cause
        What is wrong; the whole text if there is nothing else.
    remedy
        What to do about it, as part of a sentence; "" if the cause says it.
    resumable
        Whether a job can continue where it stopped once the remedy is done.
    """

    def __init__(self, cause: str, remedy: str = "", *, resumable: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.remedy, self.resumable = cause, remedy, resumable

    def message(self, resume: str) -> str:
        """Return the text; `resume` says how this user can resume a job."""
        steps = [self.remedy] if self.remedy else []
        steps += [resume] if self.resumable else []
        return f"{self.cause}; {', then '.join(steps)}." if steps else self.cause

    def __str__(self) -> str:
        return self.message(_IN_PYTHON)


class ScanError(RestoreError):
    """The scan cannot be read or cannot be restored as it is."""


class CheckpointError(RestoreError):
    """The weights cannot be read, or do not fit this scan."""


class OutputError(RestoreError):
    """The result cannot be written to the requested place."""


class DeviceError(RestoreError):
    """The chosen device does not exist or ran out of memory."""


def sentence_of_system(error: OSError) -> str:
    """Put an error of the operating system into words that the place where it happened has none for."""
    named = isinstance(error.filename, str | bytes) and os.path.basename(os.fsdecode(error.filename))
    reason = (error.strerror or str(error)).lower()
    return f"{named or 'A file'} cannot be read or written ({reason}): check its name, its permissions and the disk."
