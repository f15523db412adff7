"""The noise of a scan, estimated from the scan alone: how strong, how fine, and whether neighbouring slices share it.

The mean over the flat blocks of a slice (see `flat_blocks`) is the spectrum N(u, v) of its noise, ring by ring, and

    sigma^2 = mean of N,    mean frequency = sum |f| N / sum N,    |f| in cycles per pixel

An MR slice with air around the body is measured in the air: the magnitude of pure noise is Rayleigh distributed, with
E m^2 = 2 sigma^2 for the standard deviation sigma of its real part, and brains have almost no flat tissue.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cancellation import end_if_cancelled
from ...errors import ScanError
from ..scan import LARGEST_VALUE, slice_of
from .block_spectra import block_spectra, radial, rings
from .flat_blocks import FEWEST_BLOCKS, block_means, block_side, bounded, cut, flat_blocks, without_anatomy

if TYPE_CHECKING:
    from ..scan import Scan

# Above this, 44 to 80 % of the noise of sharp CT kernels passed through weights trained without noise there.
HIGH_FREQUENCY = 0.38
LEAST_SIDE = 16

_SLICES, _PAIRS = 5, 3
# Below this fraction of the largest value of a slice there is only float32 rounding, not noise.
_ROUNDING = 1e-6
_CORRELATED_FROM, _FAINT = 0.12, 0.01
# Ratio of standard deviation to root mean square for Rayleigh noise, and its tolerance.
_RAYLEIGH, _RAYLEIGH_MARGIN = 0.4633, 0.07
_LEAST_AIR = 0.05  # of the blocks of a slice


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a scan or slice, in flat, soft regions at the centre of the body.

    Attributes
    ----------
    sigma
        Standard deviation, in the unit of the scan, 0 or more.
    unit
        That unit: "HU", "SUV", or "" if arbitrary.
    mean_frequency
        Mean of the frequency over the noise power, in cycles per pixel: about 0.1 for very smooth kernels, 0.38 for
        white noise. 0 if there is no noise.
    high_share
        Share of the power above 0.38 cycles per pixel, from 0 to 1; 0.55 for white noise.
    slice_correlation
        Correlation with the noise of the next slice, from -1 to 1; None if there is no next slice.
    blocks
        How many blocks were flat enough to measure.
    slices
        Numbers of the slices that were measured.
    """

    sigma: float
    unit: str = ""
    mean_frequency: float = 0.0
    high_share: float = 0.0
    slice_correlation: float | None = None
    blocks: int = 0
    slices: tuple[int, ...] = (0,)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {**asdict(self), "slices": list(self.slices)}


def estimate_noise(scan: Scan, axis: int = 0) -> Noise:
    """Measure the noise of a scan in a few of its slices.

    Parameters
    ----------
    scan
        Voxels (Z, Y, X), lazy or not; at most eleven slices are read.
    axis
        Array axis across the slices that were acquired: 0, 1 or 2.

    Returns
    -------
    Noise
        Medians over at most five slices from the middle half of the scan, each weighted by its number of flat blocks.

    Raises
    ------
    ScanError
        If the slices are smaller than 16 x 16 pixels, or most of their values exceed 1e38.
    """
    count = scan.shape[axis]
    chosen = middle(count, _SLICES)
    found = [slice_noise(_read(scan, axis, i), scan.modality) for i in chosen]
    # If fewer are flat, the flattest are measured anyway; they say little.
    weights = [max(one.blocks - FEWEST_BLOCKS, 0.1) for one in found]
    return Noise(
        sigma=_weighted_median([one.sigma for one in found], weights),
        unit=scan.unit,
        mean_frequency=_weighted_median([one.mean_frequency for one in found], weights),
        high_share=_weighted_median([one.high_share for one in found], weights),
        slice_correlation=neighbour_correlation(scan, axis) if count > 1 else None,
        blocks=sum(one.blocks for one in found),
        slices=tuple(chosen),
    )


def slice_noise(image: np.ndarray, modality: str | None = None, unit: str = "") -> Noise:
    """Measure the noise of one slice (Y, X) of at least 16 x 16 pixels; see `estimate_noise`."""
    values = _checked(image)
    side = block_side(values.shape)
    known = rings(side)
    _, power = flat_blocks(values, modality)
    level = bounded(power.mean(axis=0) / known.kept, side)
    strength = level[known.number] * known.weights
    sigma = float(np.sqrt(strength.sum()) / side)
    if sigma <= _ROUNDING * float(np.abs(values).max()):
        return Noise(0.0, unit, blocks=len(power))
    share = strength / strength.sum()
    high = known.distance > HIGH_FREQUENCY
    in_air = _sigma_in_air(values) if modality == "MR" else None
    return Noise(
        sigma if in_air is None else in_air,
        unit,
        float((share * known.distance).sum()),
        float(share[high].sum()),
        blocks=len(power),
    )


def neighbour_correlation(scan: Scan, axis: int = 0, distance: int = 1) -> float:
    """Correlation of the noise of slices at a distance, from -1 to 1: near 0 where each slice has its own.

    Overlapping or interpolated slices share noise, so one cannot reveal the noise of the other. Compares the spectra of
    blocks that are flat in both slices, above the frequencies where anatomy could remain, ring by ring, so that weak
    noise counts as much as strong. 0 if there is no noise.
    """
    found = [0.0]
    for i in middle(scan.shape[axis] - distance, _PAIRS):
        first, second = (_checked(_read(scan, axis, at)) for at in (i, i + distance))
        side, (corners, _) = block_side(first.shape), flat_blocks(first, scan.modality)
        one, other = (block_spectra(cut(image, side, corners)) for image in (first, second))
        flat = without_anatomy(radial(np.abs(other) ** 2, side), side)
        one, other = one[flat], other[flat]
        own, others, shared = (
            radial(product, side).mean(axis=0)
            for product in (np.abs(one) ** 2, np.abs(other) ** 2, (one * np.conj(other)).real)
        )
        size = np.sqrt(own * others)
        # Rings with almost no noise contain the rounding of the voxels.
        used = (size > _FAINT * size.max()) & (rings(side).frequencies >= _CORRELATED_FROM)
        if used.any() and size.max() > (_ROUNDING * float(np.abs(first).max())) ** 2:
            found.append(float(np.average(shared[used] / size[used], weights=rings(side).counts[used])))
    return float(np.median(found[1:] or found))


def middle(count: int, most: int) -> list[int]:
    """At most this many numbers from 0 to count - 1, spread over the middle half."""
    if count <= most:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(count / 4, 3 * count / 4, most).round()})


def _sigma_in_air(image: np.ndarray) -> float | None:
    """Noise of a magnitude image measured in air; None if there is no air, or if it was masked or filtered."""
    squares, means = block_means(image**2, 8, 8).ravel(), block_means(image, 8, 8).ravel()
    air = np.argsort(squares)[: max(4, round(_LEAST_AIR * squares.size))]
    for _ in range(5):
        air = np.flatnonzero(squares <= 1.6 * np.median(squares[air]))
    power = float(np.mean(squares[air]))
    if air.size < _LEAST_AIR * squares.size or power <= 0 or image.min() < 0:
        return None
    deviation = float(np.sqrt(max(0.0, 1 - np.mean(means[air]) ** 2 / power)))
    return float(np.sqrt(power / 2)) if abs(deviation - _RAYLEIGH) < _RAYLEIGH_MARGIN else None


def _weighted_median(values: list[float], weights: list[float]) -> float:
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(weights, float)[order])
    return float(np.asarray(values)[order][np.searchsorted(reached, reached[-1] / 2)])


def _read(scan: Scan, axis: int, index: int) -> np.ndarray:
    """Read a slice, which can take long for a lazy scan, unless the work was cancelled."""
    end_if_cancelled()
    return slice_of(scan.voxels, axis, index)


def _checked(image: np.ndarray) -> np.ndarray:
    if min(image.shape) < LEAST_SIDE:
        raise ScanError(
            f"Noise cannot be measured in slices of {image.shape[0]} x {image.shape[1]} pixels; "
            f"{LEAST_SIDE} along each side are needed."
        )
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    too_large = np.abs(values) > LARGEST_VALUE
    if too_large.mean() > 0.5:
        raise ScanError(
            f"Noise cannot be measured among values as large as {np.abs(values).max():.3g}; divide them by a constant."
        )
    values[too_large] = 0
    return values
