"""Was only noise removed? A search for structure in the difference of a slice before and after.

The difference r is divided by its own local deviation, and its spectrum P(u, v) is measured in overlapping blocks
(Welch 1967), as a median, so that a single structure is not mistaken for noise. Small discs s are then searched for
with the optimal filter for a known shape in noise of a known spectrum,

    z = F^-1(R conj(S) / P) / sqrt(mean |S|^2 / P),

the prewhitening matched filter: for noise alone z is normal with variance 1, and a structure stands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..image_quality.contrast import disc
from ..scans.noise.smoothing import box_mean
from .places import highest_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_SIDE = 64
_BLOCK = 32
_LOCAL = 16  # side in pixels of the blocks over which the deviation is taken
_RADII = (1.2, 2.0, 3.5)
_LEAST_PASSED = 0.7
_MEDIAN_OF_NORMAL = 0.6745
# Where the spectrum is almost zero, rounding would decide.
_LEAST_POWER = 0.001
# Largest |z| of pure noise, on slices of 256 x 256 and more: calibrated by tests/reliability/test_removed.py.
DOUBTFUL, CERTAIN = 5.1, 6.5
_BIASED = 0.15  # of the deviation
_MOST_PLACES = 8
_BODY, _RIM, _EDGE = 0.1, 16, 4


class Verdict(Enum):
    """What a difference looks like."""

    NOISE = "noise"
    DOUBTFUL = "doubtful"
    STRUCTURE = "structure"


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed from a slice.

    Attributes
    ----------
    verdict, reason
        What it looks like, and a sentence for the user.
    bias
        Mean of before - after in the body, in the unit of the slice.
    deviation
        Its standard deviation.
    neighbour_correlation
        Correlation of the difference with itself shifted by one pixel, mean over both axes: high for smooth noise.
    edge_correlation
        Correlation of its magnitude with the gradient of the restored slice: noise that follows edges was anatomy.
    highest
        Largest |z| of the search.
    places
        Where structure was found: row, column and z, strongest first.
    """

    verdict: Verdict
    reason: str
    bias: float
    deviation: float
    neighbour_correlation: float
    edge_correlation: float
    highest: float
    places: tuple[tuple[int, int, float], ...]


def judge_removed(before: np.ndarray, after: np.ndarray) -> Removed:
    """Judge what was removed from a slice.

    Parameters
    ----------
    before, after
        The slice and its restoration, shape (Y, X), 64 pixels or more along each side, in the same unit.

    Raises
    ------
    ScanError
        If the slices differ in shape or are smaller.
    """
    if before.shape != after.shape or min(before.shape) < LEAST_SIDE:
        raise ScanError(
            f"Two slices of the same shape are needed, with {LEAST_SIDE} pixels or more along each side; "
            f"got {before.shape} and {after.shape}."
        )
    restored = np.nan_to_num(after.astype(np.float64))
    removed = np.nan_to_num(before.astype(np.float64) - after)
    inside = _body(restored) & ~_cut_off(np.nan_to_num(before))
    values = removed[inside]
    bias, deviation = float(values.mean()), float(values.std())
    if deviation == 0:
        return Removed(Verdict.NOISE, "Nothing was removed.", bias, 0.0, 0.0, 0.0, 0.0, ())
    z = structure(removed, inside)
    found = highest_places(np.where(inside, np.abs(z), 0), _MOST_PLACES, least=DOUBTFUL)
    places = tuple((*at, float(z[at])) for at in found)
    highest = float(np.abs(z[inside]).max())
    verdict, reason = _verdict_of(highest, places, bias, deviation)
    return Removed(
        verdict,
        reason,
        bias,
        deviation,
        _neighbour_correlation(removed, inside),
        _edge_correlation(removed, restored, inside),
        highest,
        places,
    )


def structure(removed: np.ndarray, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return z, the largest over all searched sizes at each pixel with its sign; shape (Y, X), 0 outside the body."""
    # Outside the body, too: noise cut off at its edge would look like structure there.
    everywhere = np.ones(removed.shape, bool)
    centred = removed - removed[inside].mean()
    even = centred / _local_deviation(centred, everywhere, 1e-2 * float(centred[inside].std()), quantile=1)
    power, spectrum = _spectrum(even, inside), np.fft.fft2(even)
    best = np.zeros_like(even)
    for radius in _RADII:
        pattern = np.fft.fft2(_disc_at_origin(even.shape, radius))
        found = np.fft.ifft2(spectrum * np.conj(pattern) / power).real
        found /= np.sqrt((np.abs(pattern) ** 2 / power).mean())
        # Where streaks rotate the spectrum, more passes the filter than on average.
        found /= _local_deviation(found, inside, _LEAST_PASSED, quantile=0.65)
        best = np.where(np.abs(found) > np.abs(best), found, best)
    return np.where(inside, best, 0.0)


def _local_deviation(
    values: np.ndarray, inside: NDArray[np.bool_], least: float, quantile: float
) -> NDArray[np.float64]:
    """Deviation around each pixel, by medians over blocks, so that a small structure does not count.

    Of the blocks around a pixel the `quantile` counts: at the edge of a streak noise may be as strong as inside it.
    """
    known = np.where(inside, np.abs(values), np.nan)
    rows, columns = (-(-length // _LOCAL) for length in values.shape)
    pads = [(0, rows * _LOCAL - values.shape[0]), (0, columns * _LOCAL - values.shape[1])]
    blocks = np.pad(known, pads, constant_values=np.nan).reshape(rows, _LOCAL, columns, _LOCAL).swapaxes(1, 2)
    medians = _quantile_of_known(blocks, 0.5)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(medians, 1, constant_values=np.nan), (3, 3))
    medians = _quantile_of_known(around, quantile)
    overall = np.median(known[inside])
    medians = np.where(np.isfinite(medians), medians, overall) / _MEDIAN_OF_NORMAL
    whole = np.kron(medians, np.ones((_LOCAL, _LOCAL)))[: values.shape[0], : values.shape[1]]
    return np.maximum(box_mean(whole, _LOCAL // 2), least)


def _quantile_of_known(groups: np.ndarray, quantile: float) -> NDArray[np.float64]:
    """Quantile of each group (..., rows, columns) over what is not NaN; NaN where a group holds nothing.

    `np.nanquantile` visits the groups one by one, hundreds of times slower, and warns of empty ones.
    """
    ordered = np.sort(groups.reshape(*groups.shape[:-2], -1), axis=-1)  # NaN last
    last = np.maximum(np.count_nonzero(~np.isnan(ordered), axis=-1) - 1, 0)
    position = quantile * last
    below = position.astype(int)
    low, high = (
        np.take_along_axis(ordered, at[..., np.newaxis], axis=-1)[..., 0] for at in (below, np.minimum(below + 1, last))
    )
    return low + (high - low) * (position - below)


def _spectrum(even: np.ndarray, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Power of every coefficient of the 2-D FFT, 1 for white noise of variance 1."""
    taper = np.hanning(_BLOCK + 2)[1:-1]
    window = taper[:, None] * taper
    half = _BLOCK // 2
    corners = [
        (y, x) for y in range(0, even.shape[0] - _BLOCK + 1, half) for x in range(0, even.shape[1] - _BLOCK + 1, half)
    ]
    filled = np.array([inside[y : y + _BLOCK, x : x + _BLOCK].mean() for y, x in corners])
    # The fullest, if none is complete.
    chosen = [corner for corner, share in zip(corners, filled, strict=True) if share >= min(0.98, filled.max())]
    blocks = np.stack([even[y : y + _BLOCK, x : x + _BLOCK] * window for y, x in chosen])
    power = np.abs(np.fft.fft2(blocks)) ** 2 / (window**2).sum()
    # The median of an exponential distribution is ln 2 times its mean.
    level = np.median(power, axis=0) / np.log(2)
    rough = np.fft.fftfreq(_BLOCK)
    order = np.argsort(rough)
    fine_y, fine_x = (np.fft.fftfreq(length) for length in even.shape)
    across = np.stack([np.interp(fine_x, rough[order], row[order], period=1.0) for row in level])
    whole = np.stack([np.interp(fine_y, rough[order], column[order], period=1.0) for column in across.T], axis=1)
    return np.maximum(whole, _LEAST_POWER * whole.mean())


def _disc_at_origin(shape: tuple[int, ...], radius: float) -> NDArray[np.float64]:
    side = 2 * int(radius + 2) + 1
    small = disc((side, side), (side // 2, side // 2), 2 * radius)
    whole = np.zeros(shape)
    whole[:side, :side] = small
    return np.roll(whole, (-(side // 2), -(side // 2)), axis=(0, 1))


def _body(image: np.ndarray) -> NDArray[np.bool_]:
    smooth = box_mean(image)
    dark, bright = np.quantile(smooth, (0.02, 0.98))
    # Not at its edge, where noise changes abruptly, nor at the ends of the slice, which a Fourier transform joins.
    found = np.asarray(box_mean(smooth >= dark + _BODY * (bright - dark), _EDGE) > 0.99)
    found[:_RIM], found[-_RIM:], found[:, :_RIM], found[:, -_RIM:] = False, False, False, False
    return found


def _cut_off(image: np.ndarray) -> NDArray[np.bool_]:
    """Where a slice is clipped to its darkest value, and next to that: half of the noise is missing there."""
    return np.asarray(box_mean(image <= image.min(), _EDGE) > 0)


def _verdict_of(
    highest: float, places: tuple[tuple[int, int, float], ...], bias: float, deviation: float
) -> tuple[Verdict, str]:
    at = f"row {places[0][0]}, column {places[0][1]}" if places else ""
    if highest >= CERTAIN:
        count = sum(abs(z) >= CERTAIN for *_, z in places)
        where = f"{count} place{'s' if count > 1 else ''}"
        return (
            Verdict.STRUCTURE,
            f"Structure was removed in {where}, the clearest at row {places[0][0]}, column {places[0][1]}.",
        )
    if highest >= DOUBTFUL:
        return Verdict.DOUBTFUL, f"Something at {at} may be more than noise."
    if abs(bias) > _BIASED * deviation:
        return Verdict.DOUBTFUL, f"What was removed is not zero on average ({-bias:+.3g}), as noise would be."
    return Verdict.NOISE, "What was removed looks like noise alone."


def _neighbour_correlation(removed: np.ndarray, inside: NDArray[np.bool_]) -> float:
    found = []
    for axis in (0, 1):
        one, other = np.delete(removed, -1, axis), np.delete(removed, 0, axis)
        both = np.delete(inside, -1, axis) & np.delete(inside, 0, axis)
        found.append(float(np.corrcoef(one[both], other[both])[0, 1]))
    return float(np.mean(found))


def _edge_correlation(removed: np.ndarray, restored: np.ndarray, inside: NDArray[np.bool_]) -> float:
    steepness = np.hypot(*np.gradient(box_mean(restored, 1)))
    if steepness[inside].std() == 0:
        return 0.0
    return float(np.corrcoef(box_mean(np.abs(removed), 1)[inside], steepness[inside])[0, 1])
