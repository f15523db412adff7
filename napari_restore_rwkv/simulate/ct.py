"""Low-dose CT by noise insertion in the projection domain.

    low = HU + FBP(p_noisy - p),    p = line integrals of mu = mu_water (1 + HU / 1000),
    p_noisy = -log(N / I0),         N ~ Poisson(I0 e^-p) + Normal(0, electronic)

Only the noise is projected and reconstructed, never the scan itself, so its sharpness is preserved. The incident counts
I0 are found per slice, such that the noise at the centre of the body has the requested strength.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .projector import filtered_back_projection, project, view_angles

if TYPE_CHECKING:
    from .ct_kernels import Kernel

MU_WATER_PER_MM = 0.0192
ELECTRONIC_NOISE_COUNTS = 8.0

# A quarter of the usual dose leaves 25 to 45 HU at the centre of a trunk.
QUARTER_DOSE_NOISE_HU = 35.0

_CALIBRATION_ROUNDS = 2
_CENTRE = 0.15  # half the side of the central square in which noise is measured, as a fraction of the image


def low_dose(
    slice_hu: np.ndarray, pixel_mm: float, noise_hu: float = QUARTER_DOSE_NOISE_HU, *, seed: int
) -> np.ndarray:
    """Return a slice as a scanner at a lower dose would have produced it.

    Parameters
    ----------
    slice_hu
        Square slice in HU, shape (N, N).
    pixel_mm
        Side of a pixel in mm.
    noise_hu
        Standard deviation of the added noise at the centre, in HU.
    seed
        Seed of the photon counts.

    Returns
    -------
    np.ndarray
        Shape (N, N), float32, in HU.

    Raises
    ------
    ValueError
        If the slice is not square.
    """
    return slice_hu.astype(np.float32) + added_noise(slice_hu, pixel_mm, noise_hu, seed=seed)


def added_noise(
    slice_hu: np.ndarray, pixel_mm: float, noise_hu: float, *, seed: int, kernel: Kernel | None = None
) -> np.ndarray:
    """Return only the noise that `low_dose` adds, in HU; with a `kernel`, that of a reconstruction with it."""
    mu = attenuation(slice_hu)
    size = mu.shape[0]
    angles = view_angles(max(180, round(1.4 * size)))
    line_integrals = _binned_projection(mu, angles, pixel_mm)

    counts, centre = 1e5, centre_of(size)
    for attempt in range(_CALIBRATION_ROUNDS + 1):
        rng = np.random.default_rng((seed, attempt))
        error = _noisy(line_integrals, counts, rng) - line_integrals
        last = attempt == _CALIBRATION_ROUNDS
        # To find its strength the centre is enough, a tenth of the work.
        part = filtered_back_projection(error, angles, pixel_mm, slice(None) if last else centre, kernel)
        noise = part * (1000 / MU_WATER_PER_MM)
        measured = float((noise[centre, centre] if last else noise).std())
        if not last:
            # The variance of a line integral falls as 1 / counts.
            counts *= (measured / noise_hu) ** 2
    return (noise * (noise_hu / measured)).numpy()


def attenuation(slice_hu: np.ndarray) -> Tensor:
    """Return the attenuation of a square slice in HU, (N, N) float32, in 1 / mm; ValueError if it is not square."""
    if slice_hu.ndim != 2 or slice_hu.shape[0] != slice_hu.shape[1]:
        raise ValueError(
            f"CT noise needs a square slice (N, N); got shape {slice_hu.shape}. Pad it with air (-1024 HU)."
        )
    return MU_WATER_PER_MM * (1 + torch.from_numpy(slice_hu.astype(np.float32)).clamp_min(-1000) / 1000)


def _binned_projection(mu: Tensor, angles: Tensor, pixel_mm: float) -> Tensor:
    """Project a 2x2 binned image: attenuation varies slowly compared with the noise that it determines."""
    size = mu.shape[0]
    if size % 2:
        return project(mu, angles, pixel_mm)
    binned = functional.avg_pool2d(mu[None, None], 2)[0, 0]
    coarse = project(binned, angles, 2 * pixel_mm)
    return functional.interpolate(coarse[:, None], size=size, mode="linear")[:, 0]


def _noisy(line_integrals: Tensor, counts: float, rng: np.random.Generator) -> Tensor:
    expected = counts * np.exp(-line_integrals.numpy().astype(np.float64))
    detected = rng.poisson(expected) + rng.normal(0, ELECTRONIC_NOISE_COUNTS, expected.shape)
    # A detector that received nothing still needs a value: the logarithm takes at least half a count.
    return torch.from_numpy(-np.log(np.maximum(detected, 0.5) / counts)).float()


def centre_of(size: int) -> slice:
    """Return the rows, or columns, of the central square in which the strength of noise is defined."""
    return slice(round(size * (0.5 - _CENTRE)), round(size * (0.5 + _CENTRE)))
