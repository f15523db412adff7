"""Noise of real projections for training: long streaks behind bone, which noise by angular sectors does not have.

A projection and reconstruction take seconds per slice, so a few are made once, with the plain ramp as kernel. Any other
kernel is a radial gain on their spectrum, and two realisations of a slice give any number of others:
cos(a) n_1 + sin(a) n_2 is noise of the same strength and spectrum for every a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_restore_rwkv.simulate.ct import added_noise, centre_of
from napari_restore_rwkv.simulate.ct_kernels import KERNELS

if TYPE_CHECKING:
    from napari_restore_rwkv.simulate.ct_kernels import Kernel

# Noise with the ramp kernel, which sets the dose, in HU: few photons make streaks, many make uniform noise.
_DOSE_HU = (40.0, 260.0)
_MARGIN = 16


@dataclass(frozen=True)
class ProjectedNoise:
    """Two realisations of the noise of some slices of a volume, of strength 1 at the centre.

    Attributes
    ----------
    slices
        Their indices, shape (K,).
    realisations
        Shape (K, 2, N, N), float16.
    """

    slices: np.ndarray
    realisations: np.ndarray

    def draw(
        self, at: int, corner: tuple[int, int], side: int, pixel_mm: float, kernel: Kernel, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw two independent noises of slice number `at` of these, and one each of those below and above it.

        `at` is from 1 to K - 2, so that there are such.

        Returns
        -------
        np.ndarray
            Shape (4, side, side), float32, cut out at `corner`; standard deviation 1 at the centre of the slices.
        """
        noises = []
        for k, count in ((at, 2), (at - 1, 1), (at + 1, 1)):
            both = self.realisations[k].astype(np.float32)
            scale = _filtered(both[:, *(centre_of(both.shape[-1]),) * 2], pixel_mm, kernel).std()
            angle = rng.uniform(0, 2 * np.pi)
            turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)[:count]
            (top, left), size = corner, both.shape[-1]
            low = [max(start - _MARGIN, 0) for start in (top, left)]
            high = [min(start + side + _MARGIN, size) for start in (top, left)]
            piece = _filtered(both[:, low[0] : high[0], low[1] : high[1]], pixel_mm, kernel)
            cut = piece[:, top - low[0] : top - low[0] + side, left - low[1] : left - low[1] + side]
            noises.append(np.tensordot(turned, cut, 1) / scale)
        return np.concatenate(noises)


def projected_noise(slices: np.ndarray, pixel_mm: float, every: int) -> ProjectedNoise:
    """Project and reconstruct the noise of every n-th slice (Z, N, N) in HU, each at its own dose."""
    chosen = np.arange(every // 2, len(slices), every)
    realisations = []
    for index in chosen:
        dose = float(np.exp(np.random.default_rng(index).uniform(*np.log(_DOSE_HU))))
        for seed in range(2):
            noise = added_noise(slices[index], pixel_mm, dose, seed=int(2 * index + seed), kernel=KERNELS["ramp"])
            realisations.append((noise / dose).astype(np.float16))
    shape = slices.shape[1:]
    return ProjectedNoise(chosen, np.stack(realisations).reshape(len(chosen), 2, *shape))


def _filtered(images: np.ndarray, pixel_mm: float, kernel: Kernel) -> np.ndarray:
    height, width = images.shape[-2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]) / pixel_mm
    gain = torch.from_numpy(kernel.apodisation(frequency)).float()
    return torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(images)) * gain, s=(height, width)).numpy()
