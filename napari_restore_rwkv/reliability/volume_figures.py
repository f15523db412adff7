"""Figures of all slices of a result, and of the volume: the mean over the slices where a figure is finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..progress import Phase, Progress
from ..scans.noise.estimate import LEAST_SIDE
from ..scans.scan import slice_of
from .numbers import Figure, against_reference, without_reference

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from ..scans.scan import Scan


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One figure over the slices.

    Attributes
    ----------
    measure, unit, window
        What it is, its unit, and the window that values were clipped to; "" if it has none.
    before, after
        One value for each slice, nan or infinite if undefined.
    high_is_good
        Whether high values are good.
    """

    measure: str
    unit: str
    window: str
    before: np.ndarray
    after: np.ndarray
    high_is_good: bool

    @property
    def name(self) -> str:
        """What it is, with its window; the range differs from slice to slice, so it is not in the name."""
        return f"{self.measure}, {self.window}" if self.window else self.measure


@dataclass(frozen=True, slots=True, eq=False)
class VolumeFigures:
    """All figures over the measured slices.

    Attributes
    ----------
    indices
        The slices along their axis, from 0.
    series
        A `Series` for each figure.
    """

    indices: tuple[int, ...]
    series: tuple[Series, ...]

    def figures(self) -> list[Figure]:
        """Return the mean of each figure over the slices where it is finite."""
        count = len(self.indices)
        return [
            Figure(f"volume, {count} slices: {one.name}", _mean(one.before), _mean(one.after), one.unit)
            for one in self.series
        ]

    def worst(self, number: int) -> int:
        """Return the slice in which a figure, by its number in `series`, is worst after the restoration."""
        one = self.series[number]
        badness = np.where(np.isnan(one.after), -np.inf, -one.after if one.high_is_good else one.after)
        return self.indices[int(np.argmax(badness))]


def volume_figures(
    before: Scan,
    after: Scan,
    reference: Any = None,
    *,
    indices: Sequence[int],
    axis: int,
    window: tuple[float, float] | None = None,
) -> Generator[Progress, None, VolumeFigures]:
    """Measure slice after slice, with three of them in memory at a time. Close the generator to cancel.

    Parameters
    ----------
    before, after
        On the same grid, lazy or not.
    reference
        Voxels on that grid, (Z, Y, X), in the same unit; None for noise and mean alone.
    indices, axis
        Which slices along which array axis; at least one.
    window
        Values are clipped to it before they are compared with the reference.
    """
    found: list[list[Figure]] = []
    for index in indices:
        one, other = (np.asarray(slice_of(scan.voxels, axis, index), np.float32) for scan in (before, after))
        figures: list[Figure] = []
        if reference is not None:
            ideal = np.asarray(slice_of(reference, axis, index), np.float32)
            figures += against_reference(one, other, ideal, before.unit, window)
        if min(one.shape) >= LEAST_SIDE:
            figures += without_reference(one, other, before.unit, before.modality)
        found.append(figures)
        yield Progress(Phase.MEASURING, len(found), len(indices))
    return VolumeFigures(tuple(indices), tuple(_series(same) for same in zip(*found, strict=True)))


def _series(same: tuple[Figure, ...]) -> Series:
    before, after = (np.array([getattr(one, when) for one in same]) for when in ("before", "after"))
    one = same[0]
    return Series(one.measure, one.unit, one.window, before, after, one.high_is_good)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float(values[0])
