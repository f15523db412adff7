"""Low-count PET: an activity map as a shorter acquisition, or less tracer, would have shown it.

    expected = c a P(G x),   a = exp(-P(mu)),     counts ~ Poisson(expected),     fewer ~ Binomial(counts, 1 / D)

G is the blur of the scanner, P the projection, a the attenuation, D the dose reduction. The fewer counts are drawn from
the full counts, so both images show the same acquisition, and are Poisson distributed as well. Both are reconstructed
by ordered subsets (OSEM, Hudson and Larkin 1994) with attenuation in the model and without the blur, then filtered.
Scatter, randoms and time of flight are left out: weights trained on this are labelled simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .projector import back_project, project, view_angles

BLUR_MM = 5.0
FILTER_MM = 5.0
FULL_COUNTS = 1e6
# The paper's low-count scans have about a twelfth of the counts.
DOSE_REDUCTION = 12.0

_SUBSETS, _ITERATIONS = 10, 3
_FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a slice is acquired and reconstructed.

    Attributes
    ----------
    counts
        Expected number of coincidences of the full scan of one slice.
    dose_reduction
        The low-count scan has one in this many of them, 1 or more.
    blur_mm, filter_mm
        Full width at half maximum of the scanner's blur, and of the filter after the reconstruction; 0 for none.
    iterations
        Passes of OSEM through all its subsets.
    """

    counts: float = FULL_COUNTS
    dose_reduction: float = DOSE_REDUCTION
    blur_mm: float = BLUR_MM
    filter_mm: float = FILTER_MM
    iterations: int = _ITERATIONS

    def __post_init__(self) -> None:
        if not (0 < self.counts < math.inf and 1 <= self.dose_reduction < math.inf):
            raise ValueError(
                f"A PET scan needs counts above 0 and a dose reduction of 1 or more; got {self.counts} and "
                f"{self.dose_reduction}."
            )


def low_count(
    activity: np.ndarray,
    pixel_mm: float,
    acquisition: Acquisition | None = None,
    *,
    seed: int,
    attenuation: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Acquire slices once, and reconstruct them from all counts and from some of them.

    Parameters
    ----------
    activity
        Square slices, zero or more, in SUV or any unit, shape (N, N) or (B, N, N); none may be empty.
    pixel_mm
        Side of a pixel in mm.
    acquisition
        See `Acquisition`; by default a twelfth of a million counts.
    seed
        Seed of the counts.
    attenuation
        Linear attenuation at 511 keV per mm, in the shape of `activity`; None for none.

    Returns
    -------
    tuple
        Low-count and full-count image, each float32 in the shape and unit of `activity`.

    Raises
    ------
    ValueError
        If the slices are not square, or one of them has no activity or negative activity.
    """
    acquired = _Acquired.of(activity, pixel_mm, acquisition or Acquisition(), seed, attenuation)
    return acquired.low(), acquired.full()


def only_low_count(activity: np.ndarray, pixel_mm: float, acquisition: Acquisition, *, seed: int) -> np.ndarray:
    """Return the first image of `low_count` in half the time; the parameters are the same."""
    return _Acquired.of(activity, pixel_mm, acquisition, seed, None).low()


@dataclass(frozen=True, slots=True)
class _Acquired:
    """Counts of one acquisition, all and some of them, (..., views, N), and what is needed to reconstruct them."""

    acquisition: Acquisition
    pixel_mm: float
    angles: Tensor
    factors: Tensor
    # Counts of each slice per unit of its line integrals.
    yields: Tensor
    all_counts: np.ndarray
    fewer_counts: np.ndarray

    @classmethod
    def of(
        cls,
        activity: np.ndarray,
        pixel_mm: float,
        acquisition: Acquisition,
        seed: int,
        attenuation: np.ndarray | None,
    ) -> _Acquired:
        images = torch.from_numpy(np.asarray(activity, np.float32))
        _check(images)
        angles = view_angles(views_for(images.shape[-1]))
        factors = torch.ones(*images.shape[:-2], len(angles), images.shape[-1])
        if attenuation is not None:
            factors = torch.exp(-project(torch.from_numpy(np.asarray(attenuation, np.float32)), angles, pixel_mm))
        expected = factors * project(gaussian(images, acquisition.blur_mm / pixel_mm), angles, pixel_mm)
        yields = acquisition.counts / expected.sum(dim=(-2, -1), keepdim=True)
        rng = np.random.default_rng(seed)
        full = rng.poisson((expected * yields).clamp_min(0).double().numpy())
        fewer = thinned(full, acquisition.dose_reduction, rng)
        return cls(acquisition, pixel_mm, angles, factors, yields, full, fewer)

    def low(self) -> np.ndarray:
        return self._reconstructed(self.fewer_counts, 1 / self.acquisition.dose_reduction)

    def full(self) -> np.ndarray:
        return self._reconstructed(self.all_counts, 1.0)

    def _reconstructed(self, counts: np.ndarray, share: float) -> np.ndarray:
        measured = torch.from_numpy(counts.astype(np.float32)) / (self.yields * share)
        image = osem(measured, self.angles, self.pixel_mm, factors=self.factors, iterations=self.acquisition.iterations)
        return gaussian(image, self.acquisition.filter_mm / self.pixel_mm).numpy()


def thinned(counts: np.ndarray, dose_reduction: float, rng: np.random.Generator) -> np.ndarray:
    """Keep each count with probability 1 / dose_reduction: the rest of Poisson counts is also Poisson."""
    return rng.binomial(counts, 1 / dose_reduction)


def osem(
    measured: Tensor,
    angles: Tensor,
    pixel_mm: float,
    *,
    factors: Tensor | None = None,
    subsets: int = _SUBSETS,
    iterations: int = _ITERATIONS,
) -> Tensor:
    """Reconstruct emission sinograms by ordered subsets expectation maximisation.

        x <- x / (A* 1) * A*(y / (A x)),    A = factors * project, one subset of the views after another

    Parameters
    ----------
    measured
        Sinograms, zero or more, shape (..., views, N), in the unit of the image times mm.
    angles
        View angles in radians, shape (views,).
    factors
        Transmission of each line, from 0 to 1, in the shape of `measured`; None for 1.
    subsets, iterations
        Number of subsets, interleaved, and of passes through all of them.

    Returns
    -------
    Tensor
        Shape (..., N, N), zero or more; zero outside the inscribed circle.
    """
    size = measured.shape[-1]
    through = torch.ones_like(measured) if factors is None else factors
    image = _circle(size).expand(*measured.shape[:-2], size, size).to(measured.dtype)
    count = max(1, min(subsets, len(angles) // 2))
    chosen = [slice(i, None, count) for i in _far_apart(count)]
    sensitivity = [back_project(through[..., part, :], angles[part], pixel_mm) for part in chosen]
    for _ in range(iterations):
        for part, weight in zip(chosen, sensitivity, strict=True):
            expected = through[..., part, :] * project(image, angles[part], pixel_mm)
            # Lines that cross no activity carry no information.
            ratio = torch.where(expected > 1e-6 * expected.amax(), measured[..., part, :] / expected, 0)
            update = back_project(through[..., part, :] * ratio, angles[part], pixel_mm)
            image = image * torch.where(weight > 1e-3 * weight.amax(), update / weight, 0)
    return image


def gaussian(images: Tensor, fwhm: float) -> Tensor:
    """Blur (..., N, N) images by a Gaussian whose full width at half maximum is given in pixels; zero outside."""
    if fwhm <= 0:
        return images
    sigma = fwhm / _FWHM
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    stack = images.reshape(-1, 1, *images.shape[-2:])
    stack = functional.conv2d(stack, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return functional.conv2d(stack, kernel.view(1, 1, 1, -1), padding=(0, radius)).view(images.shape)


def views_for(size: int) -> int:
    """Number of views for an image of this side: enough for its rim, a multiple of the number of subsets."""
    return max(2 * _SUBSETS, round(1.2 * size / _SUBSETS) * _SUBSETS)


def _far_apart(count: int) -> list[int]:
    """Order of the subsets, in which each is far from the one before: every third, cyclically."""
    step = next(step for step in (3, 2, 1, 5, 7) if math.gcd(step, count) == 1)
    return [(i * step) % count for i in range(count)]


def _circle(size: int) -> Tensor:
    along = torch.arange(size) - (size - 1) / 2
    return (torch.hypot(along[:, None], along[None, :]) <= size / 2).float()


def _check(images: Tensor) -> None:
    if images.dim() not in (2, 3) or images.shape[-1] != images.shape[-2]:
        raise ValueError(
            f"PET activity must be square slices, (N, N) or (B, N, N); got shape {tuple(images.shape)}. Pad it with 0."
        )
    if not bool((images >= 0).all()) or not bool((images.sum(dim=(-2, -1)) > 0).all()):
        raise ValueError("PET activity must be 0 or more everywhere, and above 0 somewhere in each slice.")
