"""HaarPSI: how similar two slices look to a person, by the Haar wavelet coefficients that they share.

Reisenhofer, Bosse, Kutyniok and Wiegand 2018 (Signal Processing: Image Communication 61, 33-43). With g_j the Haar
coefficients of scale j, along rows and along columns, of slices mapped to 0 .. 255,

    s = mean over j = 1, 2 of (2 |g_j(f)| |g_j(r)| + C) / (|g_j(f)|^2 + |g_j(r)|^2 + C)
    w = max(|g_3(f)|, |g_3(r)|)
    HaarPSI = l^-1(sum of l(s) w / sum of w)^2,    l(x) = 1 / (1 + exp(-a x))

over all pixels of both directions, with C = 30 and a = 4.2, fitted by the authors to judgements of natural images: for
scans it ranks results, but no value is good or bad by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SIDE = 16
_C, _A = 30.0, 4.2
_BRIGHTEST = 255.0
_COMPARED, _WEIGHED = (1, 2), 3


def haarpsi(
    image: np.ndarray, reference: np.ndarray, data_range: float, inside: NDArray[np.bool_] | None = None
) -> float:
    """Compare two slices.

    Parameters
    ----------
    image, reference
        Shape (Y, X), in one unit.
    data_range
        Of the reference, in that unit; its lowest value becomes 0, and that value plus the range 255.
    inside
        Which pixels count, shape (Y, X); None for all.

    Returns
    -------
    float
        Above 0, and 1 for equal slices; nan if a side is under 16 pixels, the range is not above 0, a value is not
        finite, or no pixel that counts has an edge.
    """
    if np.array_equal(image, reference):
        return 1.0
    if min(reference.shape) < LEAST_SIDE or not 0 < data_range < math.inf:
        return math.nan
    low = float(np.min(reference))
    pair = [_halved((one.astype(np.float64) - low) * (_BRIGHTEST / data_range)) for one in (image, reference)]
    counts = np.ones(pair[0].shape, bool) if inside is None else _halved(inside.astype(np.float64)) >= 0.5
    above = below = 0.0
    for axis in (0, 1):
        alike = np.mean([_similarity(*(_haar(one, scale, axis) for one in pair)) for scale in _COMPARED], axis=0)
        weight = np.maximum(*(_haar(one, _WEIGHED, axis) for one in pair)) * counts
        above += float((weight / (1 + np.exp(-_A * alike))).sum())
        below += float(weight.sum())
    if not 0 < below < math.inf:
        return math.nan
    share = above / below
    return (math.log(share / (1 - share)) / _A) ** 2


def _halved(image: np.ndarray) -> NDArray[np.float64]:
    """Means of 2 x 2 pixels: the resolution at which a person sees an image at the usual distance."""
    height, width = (side // 2 * 2 for side in image.shape)
    return image[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _similarity(one: np.ndarray, other: np.ndarray) -> NDArray[np.float64]:
    return (2 * one * other + _C) / (one**2 + other**2 + _C)


def _haar(image: np.ndarray, scale: int, axis: int) -> NDArray[np.float64]:
    """Magnitude of the coefficients of a scale along an axis, in the shape of the image, zero-padded."""
    side = 2**scale
    before, after = side // 2 - 1, side // 2
    # Sums over side x side pixels, with the first half along the axis subtracted.
    sums = np.pad(np.cumsum(np.cumsum(np.pad(image, (before, after)), 0), 1), ((1, 0), (1, 0)))
    sums = np.moveaxis(sums, axis, 0)
    along = sums[:, side:] - sums[:, :-side]
    first, second = (along[n : n + image.shape[axis]] for n in (0, side // 2))
    last = along[side : side + image.shape[axis]]
    return np.abs(np.moveaxis((last - second) - (second - first), 0, axis)) / side
