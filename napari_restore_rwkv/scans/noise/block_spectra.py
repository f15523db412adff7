"""Power spectra of square blocks of an image, for measuring noise where the image is flat.

The least-squares quadratic of a block b is subtracted, which removes shading; the block is weighted by a Hann window w
and transformed:

    P(u, v) = |F[w (b - quadratic)]|^2 / sum w^2,    radial: the mean of P over rings one coefficient wide

For white noise of variance s^2 every coefficient has the expectation s^2, except the lowest ones, of which the
quadratic removes a known share. Frequencies are in cycles per pixel; ring k is centred on k / side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """What is known about blocks of one size before any is measured.

    Attributes
    ----------
    window
        Hann window, scaled such that the sum of its squares is 1; shape (side, side).
    trends
        Orthonormal quadratics, flattened; shape (side * side, 6).
    number
        Ring of each coefficient of the half spectrum; shape (side, side // 2 + 1).
    distance
        Distance of each coefficient from frequency 0, in cycles per pixel; the same shape.
    weights
        How many coefficients of the whole spectrum each of the half spectrum represents; the same shape.
    counts
        Coefficients of the whole spectrum in each ring; shape (rings,).
    kept
        Share of white noise left in each ring after subtracting the quadratic; shape (rings,).
    freedom
        Degrees of freedom of the power of each ring, if the spectrum of the noise is smooth; shape (rings,).
    """

    window: np.ndarray
    trends: np.ndarray
    number: np.ndarray
    distance: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    kept: np.ndarray
    freedom: np.ndarray

    @property
    def frequencies(self) -> np.ndarray:
        """Centre of each ring in cycles per pixel; the corners of the spectrum are beyond 0.5."""
        return np.arange(len(self.counts)) / len(self.window)


@lru_cache(maxsize=4)
def rings(side: int) -> Rings:
    """Return the rings of blocks of side x side pixels, 8 or more."""
    along = np.arange(side) - (side - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(along, along, indexing="ij"))
    trends = np.linalg.qr(np.stack([np.ones_like(x), y, x, y * y, x * y, x * x], axis=1))[0]
    hann = np.hanning(side + 1)[:-1]
    window = np.outer(hann, hann)
    window /= np.sqrt((window**2).sum())

    fy, fx = np.fft.fftfreq(side, 1 / side)[:, None], np.arange(side // 2 + 1)
    distance = np.hypot(fy, fx)
    number = np.rint(distance).astype(int)
    weights = np.full(number.shape, 2.0)
    weights[:, 0] = 1
    if side % 2 == 0:
        weights[:, -1] = 1
    counts = np.bincount(number.ravel(), weights.ravel())

    # Projecting the trends out removes the power of the windowed trends from a windowed coefficient.
    lost = (np.abs(np.fft.rfft2(trends.T.reshape(-1, side, side) * window)) ** 2).sum(axis=0)
    kept = 1 - np.bincount(number.ravel(), (weights * lost).ravel()) / counts
    return Rings(window, trends, number, distance / side, weights, counts, kept, _degrees_of_freedom(window, counts))


def block_spectra(blocks: np.ndarray) -> np.ndarray:
    """Return the spectrum of each block: shape (B, side, side) to the complex half spectrum (B, side, side // 2 + 1).

    Its squared modulus is P as defined above.
    """
    side = blocks.shape[-1]
    known = rings(side)
    flat = blocks.reshape(len(blocks), -1)
    rest = flat - (flat @ known.trends) @ known.trends.T
    spectra: np.ndarray = np.fft.rfft2(rest.reshape(blocks.shape) * known.window)
    return spectra


def radial(power: np.ndarray, side: int) -> np.ndarray:
    """Return the mean over each ring: half spectra (B, side, side // 2 + 1) to (B, rings)."""
    known = rings(side)
    masks = (known.number.ravel() == np.arange(len(known.counts))[:, None]) * known.weights.ravel()
    means: np.ndarray = power.reshape(len(power), -1) @ (masks / known.counts[:, None]).T
    return means


def _degrees_of_freedom(window: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Degrees of freedom of ring means: n^2 / sum |G(u - v)|^2 over all pairs of a ring, G the transform of w^2."""
    side = len(window)
    along = np.fft.fftfreq(side, 1 / side)
    number = np.rint(np.hypot(along[:, None], along)).astype(int)
    linked = np.abs(np.fft.fft2(window**2)) ** 2
    pairs = [np.fft.ifft2(np.abs(np.fft.fft2(number == ring)) ** 2).real for ring in range(len(counts))]
    return counts**2 / np.array([(linked * pair).sum() for pair in pairs])
