"""Errors of DICOM folders that callers handle, without importing pydicom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .series import Series


class NoScanError(ScanError):
    """An image that is not a slice of a scan, such as a screenshot."""


class SeveralSeriesError(ScanError):
    """There are several series and none was chosen.

    Attributes
    ----------
    series
        All of them.
    """

    def __init__(self, text: str, series: Sequence[Series]) -> None:
        super().__init__(text)
        self.series = tuple(series)
