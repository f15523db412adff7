"""What would be lost: how much of a faint object survives at every position of the user's own slice.

Faint discs s are added to the slice on a lattice, far enough apart not to interact, and

    kept = <net(x + s) - net(x - s), s> / (2 <s, s>)

is measured for each of them: the task transfer of AAPM TG-233, with the slice's own noise and anatomy. The lattice is
shifted until every position has been covered. Signs alternate from disc to disc, so that the mean does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..image_quality.contrast import contrast_kept, disc
from ..progress import Phase, Progress
from ..restoration.detail import Blend, blended
from ..restoration.slices import Restored, restore_slices
from ..restoration.source import GivenSlices, Slice
from ..scans.noise.smoothing import box_mean
from .places import interpolated

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ..restoration.slices import Plan

# Discs are this many diameters apart, and at least this many pixels: beyond that they hardly interact in a network.
_DIAMETERS_APART, _LEAST_APART = 4.0, 24
_SHIFTS = 2
_SMALLEST_PX = 1.5
# Pixels brighter than this fraction of the way from dark to bright belong to the body.
_BODY = 0.1
_WORST = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A faint disc: its contrast in the unit of the scan, and its diameter in mm, both above 0."""

    contrast: float
    diameter_mm: float

    def __post_init__(self) -> None:
        if not (0 < self.contrast < np.inf and 0 < self.diameter_mm < np.inf):
            raise ScanError(
                f"A probe needs a contrast and a diameter above 0; got {self.contrast} and {self.diameter_mm}."
            )


@dataclass(frozen=True, slots=True)
class ContrastMap:
    """The fraction of a probe's contrast that survives, over a slice.

    Attributes
    ----------
    kept
        Shape (Y, X), float32: 1 is all of it; NaN outside the body.
    median
        Over the probed positions, all inside the body.
    worst
        The positions where least survives, worst first: row, column, and fraction.
    passes
        How many times the network was run.
    """

    kept: np.ndarray
    median: float
    worst: tuple[tuple[int, int, float], ...]
    passes: int


def passes_needed() -> int:
    """How many slices have to be restored for a map, for an estimate of the time."""
    return 2 * _SHIFTS**2


def contrast_map(
    one: Slice,
    network: nn.Module,
    plan: Plan,
    probe: Probe,
    spacing_mm: tuple[float, float],
    blend: Blend | None = None,
) -> Generator[Progress, None, ContrastMap]:
    """Map how much of a probe survives; close the generator to cancel.

    Parameters
    ----------
    one
        The slice with its neighbours, in the unit of the scan; the probes reach into the neighbours.
    plan
        How it is restored.
    spacing_mm
        Between the rows and between the columns of the slice.
    blend
        How the result is mixed with the slice afterwards; None for the result itself.

    Yields
    ------
    Progress
        In passes of the network.

    Raises
    ------
    ScanError
        If the probe is smaller than 1.5 pixels, or the slice has no body large enough for one.
    """
    shape = one.image.shape
    diameter = probe.diameter_mm / float(np.sqrt(spacing_mm[0] * spacing_mm[1]))
    if diameter < _SMALLEST_PX:
        least = _SMALLEST_PX * probe.diameter_mm / diameter
        raise ScanError(
            f"A probe of {probe.diameter_mm:g} mm is {diameter:.1f} pixels wide: take {least:.1f} mm or more."
        )
    rows, columns = (_places(length, diameter) for length in shape)
    body = _body(one.image)
    if not (rows.size and columns.size and body[np.ix_(rows, columns)].any()):
        raise ScanError(f"A slice of {shape[0]} x {shape[1]} pixels is too small for a probe of {diameter:.0f} pixels.")
    kept = np.full((rows.size, columns.size), np.nan)
    total = passes_needed()
    for number, (down, right) in enumerate(product(range(_SHIFTS), repeat=2)):
        lattice = _lattice(rows[down::_SHIFTS], columns[right::_SHIFTS], shape, diameter)
        signal = np.float32(probe.contrast) * sum(lattice.values(), np.zeros(shape, np.float32))
        pair = GivenSlices([_with(one, signal), _with(one, -signal)])
        restored: list[np.ndarray] = []
        for step in restore_slices(pair, network, plan):
            if isinstance(step, Restored):
                restored.append(_mixed(step, blend))
            yield Progress(Phase.MEASURING, 2 * number + len(restored), total)
        for (row, column), pattern in lattice.items():
            place = _SHIFTS * row + down, _SHIFTS * column + right
            kept[place] = contrast_kept(restored[0], restored[1], 2 * probe.contrast * pattern)
    return _mapped(kept, rows, columns, body, total)


def _mixed(step: Restored, blend: Blend | None) -> np.ndarray:
    return step.values if blend is None else step.image + blended(step.values - step.image, blend)


def _places(length: int, diameter: float) -> np.ndarray:
    """Centres of probes along an axis, those of all lattices, away from the ends."""
    step = max(_DIAMETERS_APART * diameter, _LEAST_APART) / _SHIFTS
    margin = diameter / 2 + 1
    count = max(0, int((length - 1 - 2 * margin) // step) + 1)
    start = (length - 1 - (count - 1) * step) / 2
    return np.rint(start + step * np.arange(count)).astype(int)


def _lattice(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...], diameter: float
) -> dict[tuple[int, int], np.ndarray]:
    """Discs at the positions of one lattice, by their number along both axes, every other one negative."""
    return {
        (i, j): np.float32((-1) ** (i + j)) * disc((shape[0], shape[1]), (row, column), diameter).astype(np.float32)
        for (i, row), (j, column) in product(enumerate(rows), enumerate(columns))
    }


def _with(one: Slice, signal: np.ndarray) -> Slice:
    return Slice(one.index, *(image.astype(np.float32) + signal for image in (one.image, one.below, one.above)))


def _body(image: np.ndarray) -> np.ndarray:
    smooth = box_mean(np.nan_to_num(image))
    dark, bright = np.quantile(smooth, (0.02, 0.98))
    return np.asarray(smooth > dark + _BODY * (bright - dark))


def _mapped(kept: np.ndarray, rows: np.ndarray, columns: np.ndarray, body: np.ndarray, passes: int) -> ContrastMap:
    """Interpolate between the positions, and find those where least is kept."""
    whole = interpolated(kept, rows, columns, body.shape)
    inside = body[np.ix_(rows, columns)]
    least = np.argsort(np.where(inside, kept, np.inf), axis=None)[: min(_WORST, int(inside.sum()))]
    worst = [
        (int(rows[i]), int(columns[j]), float(kept[i, j]))
        for i, j in zip(*np.unravel_index(least, kept.shape), strict=True)
    ]
    return ContrastMap(
        np.where(body, whole, np.nan).astype(np.float32), float(np.median(kept[inside])), tuple(worst), passes
    )
