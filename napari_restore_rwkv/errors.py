"""Errors whose text is meant for the person at the screen.

Every message is one sentence or two: what came, what is allowed, what to do. The viewer and the command line show it as
it is. None of these derives from RuntimeError, so that a broad handler around torch never swallows one.
"""


class RestoreError(Exception):
    """Something the user can put right; its text says how."""


class ScanError(RestoreError):
    """The scan cannot be read or cannot be restored as it is."""


class CheckpointError(RestoreError):
    """The weights cannot be read, or do not fit this scan."""


class OutputError(RestoreError):
    """The result cannot be written where it was asked for."""


class DeviceError(RestoreError):
    """The chosen device is not there or ran out of memory."""
