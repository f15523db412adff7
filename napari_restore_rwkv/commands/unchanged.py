"""Whether an input is unchanged since it was read, so that no result is mistaken for that of another scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, ScanError
from ..scans.export import slabs_of
from ..scans.lazy import fingerprint
from ..scans.opening import opening
from ..scans.scan import same_geometry
from .terminal import watch

if TYPE_CHECKING:
    from pathlib import Path

    from ..scans.options import OpenOptions
    from ..scans.scan import Scan


class InputWatch:
    """The state of a file or folder from before it is read.

    Parameters
    ----------
    path
        The input.
    options
        How it is read.
    """

    def __init__(self, path: Path, options: OpenOptions) -> None:
        self._path, self._options = path, options
        self._before = self._state()

    def check_read(self) -> None:
        """Raise ScanError if it changed while it was read, so that it was read half old and half new."""
        if self._state() != self._before:
            raise ScanError(
                f"{self._path.name} changed while it was read; wait until it is completely written, then try again."
            )

    def check_restored(self, scan: Scan) -> None:
        """Raise OutputError if the input now has different voxels than `scan`."""
        if self._state() == self._before:
            return
        if not self._is_still(scan):
            raise OutputError(
                f"{self._path.name} changed while it was restored, so nothing was written; run the command again, and "
                "do not change the input meanwhile."
            )

    def _state(self) -> dict[str, Any] | None:
        try:
            return fingerprint(self._path) if self._path.exists() else None
        except OSError:
            return None

    def _is_still(self, scan: Scan) -> bool:
        try:
            now = watch(opening(self._path, self._options))
        except ScanError:
            return False
        if now.shape != scan.shape or not same_geometry(now, scan):
            return False
        return all(
            np.array_equal(now.voxels[part.start : part.stop], scan.voxels[part.start : part.stop], equal_nan=True)
            for part in slabs_of(scan)
        )
