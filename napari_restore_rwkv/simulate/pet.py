"""Low-count PET: an activity map as a shorter acquisition, or less tracer, would have shown it.

    expected = c a P(G x),   a = exp(-P(mu)),     counts ~ Poisson(expected),     fewer ~ Binomial(counts, 1 / D)

G is the blur of the scanner, P the projection, a the attenuation, D the dose reduction. The fewer counts are drawn from
the full counts, so both images show the same acquisition, and are Poisson distributed as well. Both are reconstructed
by ordered subsets (OSEM, Hudson and Larkin 1994) with attenuation in the model and without the blur, then filtered.
Scatter, randoms and time of flight are left out: weights trained on this are labelled simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import projector, sparse_projector
from .projector import project, view_angles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    chosen = acquisition or Acquisition()
    acquired = _Acquired.of(activity, pixel_mm, chosen, seed, attenuation)
    both = torch.stack([acquired.low, acquired.full])
    low, full = _reconstructed(both, acquired.factors, pixel_mm, chosen)
    return low.numpy(), full.numpy()


def only_low_counts(
    slices: Sequence[np.ndarray],
    pixel_mm: float,
    acquisition: Acquisition,
    *,
    counts: Sequence[float],
    seeds: Sequence[int],
) -> list[np.ndarray]:
    """Return the first image of `low_count` for several slices, each with its own counts and seed.

    They are reconstructed together, which takes a fraction of the time.
    """
    acquired = [
        _Acquired.of(activity, pixel_mm, replace(acquisition, counts=expected), seed, None).low
        for activity, expected, seed in zip(slices, counts, seeds, strict=True)
    ]
    return [image.numpy() for image in _reconstructed(torch.stack(acquired), None, pixel_mm, acquisition)]


@dataclass(frozen=True, slots=True)
class _Acquired:
    """Sinograms of one acquisition, (..., views, N), from some and from all counts, in the unit of the image times mm.

    The factors are the transmission of each line; None for 1.
    """

    low: Tensor
    full: Tensor
    factors: Tensor | None

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
        expected = project(gaussian(images, acquisition.blur_mm / pixel_mm), angles, pixel_mm)
        factors = None
        if attenuation is not None:
            factors = torch.exp(-project(torch.from_numpy(np.asarray(attenuation, np.float32)), angles, pixel_mm))
            expected = factors * expected
        # Counts of each slice per unit of its line integrals.
        yields = acquisition.counts / expected.sum(dim=(-2, -1), keepdim=True)
        rng = np.random.default_rng(seed)
        full = rng.poisson((expected * yields).clamp_min(0).double().numpy())
        fewer = thinned(full, acquisition.dose_reduction, rng)
        low, all_counts = (torch.from_numpy(counts.astype(np.float32)) for counts in (fewer, full))
        return cls(low / (yields * (1 / acquisition.dose_reduction)), all_counts / yields, factors)


def _reconstructed(
    measured: Tensor, factors: Tensor | None, pixel_mm: float, acquisition: Acquisition
) -> Iterator[Tensor]:
    """Yield each image along the first axis of sinograms that are reconstructed together, then filtered."""
    angles = view_angles(measured.shape[-2])
    images = osem(measured, angles, pixel_mm, factors=factors, iterations=acquisition.iterations)
    for image in images:
        yield gaussian(image.contiguous(), acquisition.filter_mm / pixel_mm)


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
        Transmission of each line, from 0 to 1, in the shape of `measured` or without its first axes; None for 1.
    subsets, iterations
        Number of subsets, interleaved, and of passes through all of them.

    Returns
    -------
    Tensor
        Shape (..., N, N), zero or more; zero outside the inscribed circle.
    """
    size = measured.shape[-1]
    many = sparse_projector.is_faster(size, math.prod(measured.shape[:-2]))
    used = sparse_projector if many else projector
    through = measured.new_ones(measured.shape[-2:]) if factors is None else factors
    image = _circle(size).expand(*measured.shape[:-2], size, size).to(measured.dtype)
    count = max(1, min(subsets, len(angles) // 2))
    chosen = [slice(i, None, count) for i in _far_apart(count)]
    sensitivity = [used.back_project(through[..., part, :], angles[part], pixel_mm) for part in chosen]
    for _ in range(iterations):
        for part, weight in zip(chosen, sensitivity, strict=True):
            expected = through[..., part, :] * used.project(image, angles[part], pixel_mm)
            # Lines that cross no activity carry no information.
            ratio = torch.where(expected > 1e-6 * _most(expected), measured[..., part, :] / expected, 0)
            update = used.back_project(through[..., part, :] * ratio, angles[part], pixel_mm)
            image = image * torch.where(weight > 1e-3 * _most(weight), update / weight, 0)
    return image


def _most(images: Tensor) -> Tensor:
    """Return the largest value of each image or sinogram, for broadcasting."""
    return images.amax(dim=(-2, -1), keepdim=True)


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
