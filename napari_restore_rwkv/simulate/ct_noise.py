"""CT noise for any reconstruction kernel in milliseconds, without a projection for every realisation.

A view at angle a contributes noise whose frequencies point along a, with a strength at each pixel that follows from the
attenuation of the ray through it. So the noise of a reconstruction is a sum over sectors of view angles,

    noise(x) = sum_k sqrt(V_k(x)) n_k(x),

with V_k the variance that the views of sector k contribute at pixel x, which varies slowly, and n_k stationary noise
with the power spectrum of the kernel inside frequency sector k, and none outside. V depends only on the scan and is
computed once; a realisation then takes one Fourier transform per sector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .ct import ELECTRONIC_NOISE_COUNTS, attenuation, centre_of
from .projector import project

if TYPE_CHECKING:
    from .ct_kernels import Kernel

SECTORS = 8
_VIEWS = 64
_COARSE = 128  # pixels along a side of the image that is projected
_MAP = 64  # pixels along a side of the maps of variance
_USUAL_COUNTS = 2e5


@dataclass(frozen=True, slots=True)
class NoiseShape:
    """Where in a slice, and in which directions, its noise is strong.

    Attributes
    ----------
    variance
        Shape (SECTORS, N, N), float32: the variance that each sector of view angles contributes at a position of the
        slice, which the map covers from edge to edge. Sector k is centred on the direction of angle pi (k + 1/2) /
        SECTORS from x to y. The sum over sectors is 1 on average over the centre of the slice.
    """

    variance: np.ndarray

    def crop(self, top: float, left: float, height: float, width: float) -> NoiseShape:
        """Return the maps for a part of the slice, given in fractions of its sides, on the same grid."""
        rows = _positions(top, height, self.variance.shape[1])
        columns = _positions(left, width, self.variance.shape[2])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None]
        maps = torch.from_numpy(self.variance)[None]
        return NoiseShape(functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)[0].numpy())


def noise_shape(slice_hu: np.ndarray, pixel_mm: float, counts: float = _USUAL_COUNTS) -> NoiseShape:
    """Compute where the noise of a slice is strong.

    Parameters
    ----------
    slice_hu
        Square slice in HU, shape (N, N).
    pixel_mm
        Side of a pixel in mm.
    counts
        Photons that reach a detector element through air; the fewer, the more the electronic noise matters behind bone.

    Raises
    ------
    ValueError
        If the slice is not square.
    """
    mu = attenuation(slice_hu)
    size = mu.shape[0]
    side = min(_COARSE, size)
    coarse = functional.interpolate(mu[None, None], size=(side, side), mode="area")[0, 0]
    angles = (torch.arange(_VIEWS) + 0.5) * (math.pi / _VIEWS)
    transmitted = counts * torch.exp(-project(coarse, angles, pixel_mm * size / side))
    # Variance of -log of a count with electronic noise.
    variance = counts * (1 / transmitted + (ELECTRONIC_NOISE_COUNTS / transmitted) ** 2)

    along = torch.linspace(-1, 1, _MAP) * (1 - 1 / _MAP) * side / 2
    maps = torch.zeros(SECTORS, _MAP, _MAP)
    for view, angle in enumerate(angles):
        t = along[None, :] * angle.cos() + along[:, None] * angle.sin() + (side - 1) / 2
        lower = t.floor().clamp(0, side - 2).long()
        row = variance[view]
        maps[view * SECTORS // _VIEWS] += torch.lerp(row[lower], row[lower + 1], (t - lower).clamp(0, 1))
    centre = centre_of(_MAP)
    return NoiseShape((maps / maps.sum(0)[centre, centre].mean()).numpy())


def noise_realisation(
    shape: NoiseShape,
    size: tuple[int, int],
    pixel_mm: float,
    kernel: Kernel,
    noise_hu: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw noise for a slice, or for a crop of one.

    Parameters
    ----------
    shape
        Of the slice or of the crop.
    size
        Rows and columns.
    pixel_mm
        Side of a pixel in mm.
    kernel
        Of the reconstruction; frequencies beyond the Nyquist frequency of the pixels are lost.
    noise_hu
        Standard deviation in HU where the maps of `shape` add up to 1, the centre of the slice.
    rng
        Random number generator.

    Returns
    -------
    np.ndarray
        Shape `size`, float32, in HU.
    """
    # Somewhat larger, because a Fourier transform is periodic.
    height, width = (_fast_size(side + 16) for side in size)
    fy = torch.fft.fftfreq(height)[:, None] / pixel_mm
    fx = torch.fft.rfftfreq(width)[None, :] / pixel_mm
    power = torch.from_numpy(kernel.noise_power(torch.hypot(fy, fx).numpy())).float()
    # Each column of the half spectrum except the first and the last represents two.
    total = float(2 * power.sum() - power[:, 0].sum() - (power[:, -1].sum() if width % 2 == 0 else 0))
    # White noise of variance 1 has a squared coefficient of height * width at every frequency.
    gain = (power * (height * width / total)).sqrt() * noise_hu
    white = torch.from_numpy(rng.standard_normal((height, width), dtype=np.float32))
    spectrum = torch.fft.rfft2(white) * gain
    sector = _sector_of(fy, fx)
    noise = torch.zeros(size)
    for k, variance in enumerate(torch.from_numpy(shape.variance)):
        part = torch.fft.irfft2(spectrum * (sector == k), s=(height, width))[: size[0], : size[1]]
        # A sector has 1 / SECTORS of the power, and its map about as much of the variance.
        strength = (SECTORS * variance).sqrt()[None, None]
        noise += part * functional.interpolate(strength, size=size, mode="bilinear")[0, 0]
    return noise.numpy()


def _sector_of(fy: Tensor, fx: Tensor) -> Tensor:
    angle = torch.atan2(fy, fx).remainder(math.pi)
    return (angle * (SECTORS / math.pi)).long().clamp_max(SECTORS - 1)


def _positions(start: float, length: float, count: int) -> Tensor:
    """Centres of `count` parts of [start, start + length], from -1 to 1 over the whole."""
    return 2 * (start + length * (torch.arange(count) + 0.5) / count) - 1


def _fast_size(least: int) -> int:
    """Smallest even length of at least this many samples, without large prime factors."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
