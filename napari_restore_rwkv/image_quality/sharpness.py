"""Sharpness at the edge of a rod: the task transfer function of AAPM TG-233, at a circular edge (Richard 2012).

    ESF(r): mean over the pixels at distance r from the centre,    LSF = dESF/dr,    TTF(f) = |FT[LSF]| / |FT[LSF](0)|

A nonlinear filter has a different TTF at each contrast and noise level; so the image is the mean over realisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = 0.1  # pixels between the samples of the edge
_FINEST = 0.002  # cycles per pixel between the samples of the transfer


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A task transfer function.

    Attributes
    ----------
    frequencies
        In cycles per pixel, from 0 to 0.5.
    values
        1 at frequency 0.
    """

    frequencies: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, level: float) -> float:
        """Lowest frequency, in cycles per pixel, at which the transfer has fallen to a level; 0.5 if it has not."""
        below = np.flatnonzero(self.values < level)
        if below.size == 0:
            return 0.5
        end = int(below[0])
        high, low = self.values[end - 1], self.values[end]
        part = (high - level) / (high - low)
        return float(self.frequencies[end - 1] + part * (self.frequencies[end] - self.frequencies[end - 1]))


def edge_transfer(image: np.ndarray, centre: tuple[float, float], radius: float, reach: float) -> Transfer:
    """Measure the transfer at the edge of a rod.

    Parameters
    ----------
    image
        Shape (Y, X), the mean over realisations.
    centre
        (y, x) of the axis of the rod, in pixels.
    radius
        Of the rod, in pixels.
    reach
        How far to either side of the edge the image is used, in pixels; less than `radius`, and free of other objects.
    """
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    inside = np.abs(distance - radius) <= reach
    position, value = distance[inside] - radius, np.asarray(image, np.float64)[inside]
    bins = np.round(position / _STEP).astype(int)
    first = int(bins.min())
    counts = np.bincount(bins - first)
    sums, places = np.bincount(bins - first, value), np.bincount(bins - first, position)
    filled = counts > 0
    along = np.arange(-reach, reach + _STEP / 2, _STEP)
    edge = np.interp(along, places[filled] / counts[filled], sums[filled] / counts[filled])
    line = np.diff(edge)
    middle = (along[1:] + along[:-1]) / 2
    # Towards the ends there is only noise; up to half of the reach everything is kept.
    line *= np.cos(np.pi / 2 * (2 * np.abs(middle) / reach - 1).clip(min=0)) ** 2
    frequencies = np.arange(0, 0.5 + _FINEST / 2, _FINEST)
    spectrum = np.abs(np.exp(-2j * np.pi * frequencies[:, None] * middle) @ line)
    return Transfer(frequencies, spectrum / spectrum[0])
