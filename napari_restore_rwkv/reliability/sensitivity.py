"""How much a result depends on the orientation of the slice: its spread over flips and quarter turns.

Anatomy and noise are the same in each of the eight orientations of a slice, so a network should return the same result;
where it does not, its answer depends on something that is not in the scan. The spread is not a probability: a network
that consistently makes a mistake makes it eight times (Wang et al. 2019, Neurocomputing 338, 34-45, use the same
spread, with noise added).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..progress import Phase, Progress
from ..restoration.detail import Blend, blended
from ..restoration.slices import Restored, restore_slices
from ..restoration.source import GivenSlices, Slice
from ..scans.noise.smoothing import box_mean
from .places import highest_places

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ..restoration.slices import Plan

_WAYS = tuple((turns, flipped) for turns in range(4) for flipped in (False, True))
_PLACES = 5


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The spread of the results over a slice.

    Attributes
    ----------
    deviation
        Standard deviation over the eight results at each pixel, shape (Y, X), float32, in the unit of the scan.
    median
        Over the pixels that any of them changed; 0 if nothing was changed.
    highest
        The positions where it is highest, as means over 7 x 7 pixels: row, column, and that mean, highest first.
    """

    deviation: np.ndarray
    median: float
    highest: tuple[tuple[int, int, float], ...]


def passes_needed() -> int:
    """How many times the slice is restored, for an estimate of the time."""
    return len(_WAYS)


def sensitivity(
    one: Slice, network: nn.Module, plan: Plan, blend: Blend | None = None
) -> Generator[Progress, None, Sensitivity]:
    """Restore a slice in its eight orientations, turn the results back, and compare; close to cancel.

    Parameters
    ----------
    one
        The slice with its neighbours, in the unit of the scan.
    plan
        How it is restored.
    blend
        How the result is mixed with the slice afterwards; None for the result itself.
    """
    images: list[np.ndarray] = []
    for turns, flipped in _WAYS:
        laid = [_oriented(image, turns, flipped) for image in (one.image, one.below, one.above)]
        # One at a time: a slice turned on its side has another shape.
        for step in restore_slices(GivenSlices([Slice(one.index, *laid)]), network, plan):
            if isinstance(step, Restored):
                images.append(_oriented_back(step.values, turns, flipped))
            yield Progress(Phase.MEASURING, len(images), len(_WAYS))
    together = np.stack(images).astype(np.float64)
    if blend is not None:
        together = np.stack([one.image + blended(image - one.image, blend) for image in together])
    deviation = together.std(axis=0, ddof=1)
    deviation[~np.isfinite(deviation)] = 0.0
    changed = (together != one.image).any(axis=0)
    median = float(np.median(deviation[changed])) if changed.any() else 0.0
    smooth = box_mean(deviation)
    highest = [(*at, float(smooth[at])) for at in highest_places(smooth, _PLACES, least=math.ulp(0.0))]
    return Sensitivity(deviation.astype(np.float32), median, tuple(highest))


def _oriented(image: np.ndarray, turns: int, flipped: bool) -> np.ndarray:
    turned = np.rot90(image, turns)
    return np.ascontiguousarray(turned[:, ::-1] if flipped else turned)


def _oriented_back(image: np.ndarray, turns: int, flipped: bool) -> np.ndarray:
    return np.rot90(image[:, ::-1] if flipped else image, -turns)
