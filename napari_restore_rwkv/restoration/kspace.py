"""The measured centre of k-space: how far it extends in a zero-filled MR slice, and how to put it back.

A low-resolution scan that was interpolated by zero-filling has almost no signal beyond the measured frequencies. A
restoration should add what is beyond, and must not change what is within: that was measured.

Extents count cycles per field of view along y and x, the highest measured one included; frequency k of an axis with N
samples is coefficient k, and -k, of its FFT.
"""

from __future__ import annotations

import numpy as np

Extent = tuple[int, int]

# How much more steeply the power must fall at the end of the measured block than just before it. Anatomy alone stays
# below 2.5; the magnitude of a zero-filled slice reaches 4 and more, even with noise of 3 % of its brightness.
_LEAST_STEP = 3.2
_BESIDE = 3
# Blocks of less than a sixth of an axis are not searched for: the low frequencies fall steeply by themselves.
_LEAST_SHARE = 1 / 12


def measured_extent(image: np.ndarray) -> Extent | None:
    """Find the highest measured frequencies of a slice.

    Parameters
    ----------
    image
        Finite values, shape (Y, X).

    Returns
    -------
    tuple or None
        Extent along y and x, as far as can be told never more than what was measured; an axis on which no end is found
        gets the same fraction as the other one. None if neither axis is zero-filled.
    """
    power = np.abs(np.fft.fft2(image - np.mean(image, dtype=np.float64))) ** 2
    along_y, along_x = _end(power.mean(axis=1)), _end(power.mean(axis=0))
    height, width = image.shape
    if along_y is not None:
        return along_y, int(along_y * width / height) if along_x is None else along_x
    return None if along_x is None else (int(along_x * height / width), along_x)


def with_measured(restored: np.ndarray, image: np.ndarray, extent: Extent) -> np.ndarray:
    """Return a restored slice with its measured frequencies replaced by those of the slice that it was made from.

    Parameters
    ----------
    restored, image
        Shape (Y, X), in the same unit, finite.
    extent
        From `measured_extent`.

    Returns
    -------
    ndarray
        Shape (Y, X), float32.
    """
    difference = np.fft.fft2(image.astype(np.float64) - restored)
    correction = np.fft.ifft2(difference * measured_coefficients(image.shape, extent)).real
    return (restored + correction).astype(np.float32)


def measured_coefficients(shape: tuple[int, ...], extent: Extent, crop: tuple[int, ...] | None = None) -> np.ndarray:
    """Which coefficients of the 2-D FFT of a slice of this shape, or of a crop of it, were measured.

    Parameters
    ----------
    shape
        Of the slice, (Y, X).
    extent
        From `measured_extent` of the slice.
    crop
        Shape of the crop, in whose FFT the same frequencies are at other positions; None for the slice itself.

    Returns
    -------
    ndarray
        Boolean, in the shape of the crop, or of the slice.
    """
    rows, columns = (
        np.abs(np.fft.fftfreq(length)) * size <= end + 0.5
        for length, size, end in zip(crop or shape, shape, extent, strict=True)
    )
    return rows[:, None] & columns


def _end(profile: np.ndarray) -> int | None:
    """The last frequency along one axis that was certainly measured; None if the power falls as in any image."""
    half = (len(profile) - 1) // 2
    lowest = max(2 * _BESIDE, round(_LEAST_SHARE * len(profile)))
    ends = np.arange(lowest, half - _BESIDE + 1)
    if ends.size == 0 or profile.max() == 0:
        return None
    # Geometric means, so that one strong frequency does not dominate its neighbours.
    level = np.log(profile[: half + 1] + 1e-12 * profile.max())
    means = np.convolve(level, np.full(_BESIDE, 1 / _BESIDE), mode="valid")  # means[i] is over i .. i + _BESIDE - 1
    before, inside = means[ends - 2 * _BESIDE + 1], means[ends - _BESIDE + 1]
    # The highest level anywhere beyond: after a peak of the spectrum it is no lower than before it.
    outside = np.maximum.accumulate(means[::-1])[::-1][ends + 1]
    steps = np.minimum(before, inside) - outside - np.maximum(before - inside, 0)
    steep = np.flatnonzero(steps >= np.log(_LEAST_STEP))
    if steep.size == 0:
        return None
    # The first one: taking the magnitude leaves traces up to twice that frequency, which end as well.
    first = int(steep[0])
    best = first + int(steps[first : first + _BESIDE].argmax())
    # An even block has one more frequency of one sign, half of which shows in the magnitude: it is not counted.
    return int(ends[best]) - 1
