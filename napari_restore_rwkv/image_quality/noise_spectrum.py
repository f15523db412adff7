"""The noise power spectrum of images, before and after a filter.

    NPS(u, v) = (dx dy / (Nx Ny)) < |DFT[d]|^2 >,    d: noise alone, over realisations and regions

(AAPM TG-233, ICRU 87), in units^2 mm^2, with frequencies in cycles per mm; its integral is the variance. Noise alone is
the image minus the mean over realisations, times n / (n - 1) in power. If a pixel is taken as 1 mm, frequencies are in
cycles per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class NoiseSpectrum:
    """A noise power spectrum.

    Attributes
    ----------
    power
        Shape (N, N), in units^2 mm^2, in the order of an FFT.
    pixel_mm
        Side of a pixel.
    """

    power: NDArray[np.float64]
    pixel_mm: float

    @property
    def distance(self) -> NDArray[np.float64]:
        """Distance of each coefficient from frequency 0, in cycles per mm; the shape of `power`."""
        along = np.fft.fftfreq(len(self.power), self.pixel_mm)
        return np.hypot(along[:, None], along)

    @property
    def variance(self) -> float:
        """Integral over all frequencies, in units^2."""
        return float(self.power.sum() / (self.power.shape[0] * self.pixel_mm) ** 2)

    @property
    def mean_frequency(self) -> float:
        """Mean frequency over the power, in cycles per mm: low if the noise is coarse and the image looks waxy."""
        total = self.power.sum()
        return float((self.distance * self.power).sum() / total) if total > 0 else 0.0

    def radial(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return frequencies, up to half a cycle per pixel, and the mean power over rings one coefficient wide."""
        side = len(self.power)
        ring = np.rint(self.distance * side * self.pixel_mm).astype(int).ravel()
        means = np.bincount(ring, self.power.ravel()) / np.bincount(ring)
        return np.arange(side // 2) / (side * self.pixel_mm), means[: side // 2]

    def share_above(self, frequency: float) -> float:
        """Share of the power above a frequency in cycles per mm, 0 to 1."""
        total = self.power.sum()
        return float(self.power[self.distance > frequency].sum() / total) if total > 0 else 0.0


def noise_spectrum(images: np.ndarray, pixel_mm: float = 1.0) -> NoiseSpectrum:
    """Measure the noise of realisations of the same thing.

    Parameters
    ----------
    images
        Shape (n, ..., N, N), n >= 2 realisations, with any number of regions each.
    pixel_mm
        Side of a pixel.
    """
    values = np.asarray(images, np.float64)
    count, side = values.shape[0], values.shape[-1]
    if count < 2:
        raise ValueError(f"Noise is what differs between realisations: give two or more, got {count}.")
    noise = (values - values.mean(axis=0)) * np.sqrt(count / (count - 1))
    power = np.abs(np.fft.fft2(noise)) ** 2
    mean = power.reshape(-1, side, side).mean(axis=0)
    return NoiseSpectrum(mean * (pixel_mm / side) ** 2, pixel_mm)
