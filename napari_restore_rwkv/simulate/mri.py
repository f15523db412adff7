"""Low-resolution MRI: a slice as a shorter acquisition, with fewer phase and frequency steps, would have produced it.

    low = | F^-1( keep * F(image) + n ) |,    n complex Gaussian on the kept block, zero elsewhere

A factor f keeps the central K = round(N / f) of the N coefficients along an axis, from -(K // 2) up, as a scanner does;
all others are zero ("zero-filled"), so the result is on the grid of the input: sample i of the small image that the
block alone would give coincides with sample i N / K of this one, without a shift. The coefficient of frequency 0 is
kept: the mean stays the same, and so does the brightness of everything large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Factors = float | tuple[float, float]


def low_resolution(
    image: np.ndarray, factor: Factors, noise: float = 0.0, *, seed: int | Sequence[int] | np.random.Generator = 0
) -> NDArray[np.float32]:
    """Return a slice as an acquisition of lower resolution would have produced it, on the same grid.

    Parameters
    ----------
    image
        Magnitude image, shape (Y, X), zero or more, in any unit.
    factor
        Loss of resolution along both axes, or along y and x: any number from 1 (none) to the length of the axis.
        The number of kept coefficients is rounded, so 3 keeps 85 of 256.
    noise
        Standard deviation of the real and of the imaginary part of the noise in the low-resolution image, in the unit
        of the image; in dark regions its magnitude is Rayleigh distributed, as in every magnitude image.
    seed
        Seed, or a generator, of the noise.

    Returns
    -------
    ndarray
        Shape (Y, X), float32, zero or more.

    Raises
    ------
    ValueError
        If the image is not two-dimensional, or the factor or the noise is out of range.
    """
    rows, columns = kept_block(image.shape, factor)
    if not 0 <= noise < np.inf:
        raise ValueError(f"The noise of an MR image must be a standard deviation of 0 or more; got {noise}.")
    spectrum = np.fft.fft2(image.astype(np.float32), norm="ortho")
    kept = np.zeros_like(spectrum)
    kept[rows, columns] = spectrum[rows, columns]
    if noise > 0:
        count = (rows.size, columns.size)
        # Keeping K of T coefficients scales the noise in the image by sqrt(K / T): compensated here.
        scale = noise * np.sqrt(image.size / (count[0] * count[1]))
        rng = np.random.default_rng(seed)
        kept[rows, columns] += scale * (rng.standard_normal(count) + 1j * rng.standard_normal(count))
    return np.abs(np.fft.ifft2(kept, norm="ortho")).astype(np.float32)


def kept_block(shape: tuple[int, ...], factor: Factors) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the kept coefficients of a 2-D FFT as an open mesh: rows of shape (K_y, 1), columns of shape (1, K_x)."""
    factors = factor if isinstance(factor, tuple) else (factor, factor)
    if len(shape) != 2:
        raise ValueError(f"MR resolution is lowered slice by slice, (Y, X); got shape {shape}.")
    for size, along in zip(shape, factors, strict=True):
        if not 1 <= along <= size:
            raise ValueError(
                f"The factor of MR resolution must be from 1 to {size}, the length of the axis; got {along}."
            )
    rows, columns = (_lowest(round(size / along)) for size, along in zip(shape, factors, strict=True))
    return rows[:, None], columns[None, :]


def resampled(image: np.ndarray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return an image on a finer or coarser grid over the same field of view, made from its central k-space block.

    Mean and brightness are preserved. Coarser grids lose what they cannot represent, as a scanner with that matrix
    would, including ringing; sample 0 stays where it is.
    """
    rows, columns = (_lowest(min(size, new)) for size, new in zip(image.shape, shape, strict=True))
    spectrum = np.fft.fft2(image.astype(np.float32))
    target = np.zeros(shape, spectrum.dtype)
    target[rows[:, None], columns[None, :]] = spectrum[rows[:, None], columns[None, :]]
    gain = (shape[0] * shape[1]) / image.size
    return np.abs(np.fft.ifft2(target) * gain).astype(np.float32)


def _lowest(count: int) -> NDArray[np.int_]:
    """Indices of the `count` lowest frequencies of an FFT, from -(count // 2) up; negative ones count from its end."""
    return np.arange(count) - count // 2
