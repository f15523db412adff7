"""An MR phantom defined in continuous k-space: exact at any matrix size, so it does not depend on an image grid.

An ellipse of intensity q with half axes a, b and centre c has the spectrum (Van de Walle et al. 2000)

    F(k) = q a b J1(2 pi K) / K exp(-2 pi i k . c),    K = sqrt((a k_y)^2 + (b k_x)^2),    F(0) = q pi a b,

a bar of half lengths a, b is the product of two sinc functions. Positions are in fields of view from -0.5 to 0.5, y
before x, and k counts cycles per field of view. A scanner measures the K x K lowest coefficients, with complex noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 192
BRIGHTNESS = 1000.0
# Widths of the bars, and of the gaps between them, in pixels of the full matrix.
BARS = (1.5, 2.0, 3.0, 4.0, 6.0)
# Contrast, as a fraction of the brightness, and diameter in pixels.
FAINT = ((0.03, 20.0), (0.06, 12.0))


@dataclass(frozen=True, slots=True)
class Shape:
    """An ellipse or a bar: intensity, centre (y, x), half axes (y, x), in fields of view."""

    intensity: float
    y: float
    x: float
    half_y: float
    half_x: float
    bar: bool = False


def head() -> list[Shape]:
    """Return a head made of ellipses, with a rod to measure its edge."""
    q = BRIGHTNESS
    return [
        Shape(q, 0, 0, 0.44, 0.36),
        Shape(-0.7 * q, 0, 0, 0.415, 0.335),
        Shape(0.3 * q, 0, 0, 0.40, 0.32),
        Shape(-0.35 * q, -0.02, -0.08, 0.12, 0.035),
        Shape(-0.35 * q, -0.02, 0.08, 0.12, 0.035),
        Shape(0.25 * q, -0.25, 0, 0.045, 0.09),
        # The rod.
        Shape(0.4 * q, 0.25, 0, 0.0729, 0.0729),
    ]


def bars() -> list[Shape]:
    """Return groups of four upright bars of each width of `BARS`."""
    found = []
    for group, width in enumerate(BARS):
        for number in range(4):
            x = (-0.22 + 0.11 * group) + (2 * number - 3) * width / SIDE
            found.append(Shape(0.3 * BRIGHTNESS, 0.12, x, 0.03, width / SIDE / 2, bar=True))
    return found


def faint() -> list[Shape]:
    """Return low-contrast discs, one of each kind of `FAINT` to either side."""
    return [
        Shape(contrast * BRIGHTNESS, -0.12, side * (0.17 + 0.04 * number), d / SIDE / 2, d / SIDE / 2)
        for number, (contrast, d) in enumerate(FAINT)
        for side in (-1, 1)
    ]


def k_space(shapes: list[Shape], side: int = SIDE) -> NDArray[np.complex128]:
    """Return the coefficients from -side // 2 up, shape (side, side), in the order of an FFT."""
    k = np.fft.fftfreq(side, 1 / side)
    ky, kx = k[:, None], k[None, :]
    total = np.zeros((side, side), np.complex128)
    for one in shapes:
        if one.bar:
            values = 4 * one.half_y * one.half_x * np.sinc(2 * one.half_y * ky) * np.sinc(2 * one.half_x * kx)
        else:
            reach = 2 * np.pi * np.hypot(one.half_y * ky, one.half_x * kx)
            bessel = torch.special.bessel_j1(torch.from_numpy(reach)).numpy()
            ratio = np.divide(bessel, reach, out=np.full_like(reach, 0.5), where=reach > 0)
            values = 2 * np.pi * one.half_y * one.half_x * ratio
        total += one.intensity * values * np.exp(-2j * np.pi * (ky * one.y + kx * one.x))
    return total


@lru_cache(maxsize=8)
def _known(which: str) -> NDArray[np.complex128]:
    return k_space({"head": head(), "bars": bars(), "faint": faint()}[which])


def spectrum_of(*parts: str) -> NDArray[np.complex128]:
    """Return the coefficients of "head", "bars", "faint", summed."""
    return sum((_known(part) for part in parts), np.zeros((SIDE, SIDE), np.complex128))


def acquired(
    spectrum: np.ndarray, factor: float = 1.0, noise: float = 0.0, rng: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """Reconstruct a magnitude image from the measured part of k-space, zero-filled to the full matrix.

    Parameters
    ----------
    spectrum
        From `spectrum_of`, (N, N).
    factor
        One in this many coefficients along each axis is measured, the lowest ones.
    noise
        Standard deviation of the real and of the imaginary part in the image.
    rng
        Generator of the noise.
    """
    side = len(spectrum)
    half = round(side / factor) / 2
    low = np.fft.fftfreq(side, 1 / side)
    kept = (low >= -half) & (low < half)
    block = kept[:, None] & kept
    values = np.where(block, spectrum, 0)
    if noise > 0 and rng is not None:
        deviation = noise / np.sqrt(block.sum())
        drawn = rng.standard_normal((2, side, side))
        values = values + np.where(block, deviation * (drawn[0] + 1j * drawn[1]), 0)
    # Position 0 is the middle of the image.
    image = np.abs(np.fft.fftshift(np.fft.ifft2(values))) * side**2
    return image.astype(np.float32)
