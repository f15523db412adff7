"""Degrades a whole scan, slice by slice along z: for trying out restoration, and for measuring it."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ScanError
from ..progress import Phase, Progress
from ..tasks import TASKS
from ..threads import each_on_one_thread, let_idle_threads_sleep
from .ct import QUARTER_DOSE_NOISE_HU, low_dose
from .mri import low_resolution
from .pet import DOSE_REDUCTION, FULL_COUNTS, Acquisition, only_low_counts
from .sparse_projector import matrices_freed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ..scans.scan import Scan

_AIR_HU = -1024.0
# What all slices share is computed once for that many.
_PET_SLICES_AT_ONCE = 16
# Of the counts of the brightest slice.
_LEAST_SHARE = 1e-4


@dataclass(frozen=True, slots=True)
class Strength:
    """What the strength of a task means, its default, and its range (inclusive)."""

    meaning: str
    usual: float
    least: float
    most: float


STRENGTHS = {
    "ct-denoise": Strength("added noise relative to a quarter of the dose, which is 35 HU at the centre", 1.0, 0.05, 5),
    "mri-sr": Strength("loss of resolution along y and x", 2.0, 1, 8),
    "pet-low-count": Strength("one in this many counts is kept", DOSE_REDUCTION, 1, 1000),
}


def simulate(scan: Scan, task: str, *, seed: int, strength: float | None = None) -> Generator[Progress, None, Scan]:
    """Degrade a scan in the way that a task restores.

    Parameters
    ----------
    scan
        A good scan of the modality of the task, with square pixels for CT and PET; PET in any unit.
    task
        "ct-denoise", "mri-sr" or "pet-low-count".
    seed
        Seed of the noise; slice i draws from (seed, i).
    strength
        See `STRENGTHS`; None takes the default.

    Yields
    ------
    Progress
        After each slice. The degraded scan is the value of StopIteration: same geometry, float32, or rounded if the
        input has integers of 16 bits and more; metadata["simulation"] says how it was made.

    Raises
    ------
    ScanError
        The task cannot be simulated or is for another modality, the strength is out of range, or the scan has voxels
        that make no physical sense.
    """
    chosen = _checked_strength(task, strength)
    _check_scan(scan, task)
    let_idle_threads_sleep()
    own = np.dtype(scan.voxels.dtype)
    output = np.empty(scan.shape, own if own.kind in "iu" and own.itemsize > 1 else np.float32)
    brightest = _largest_sum(scan) if task == "pet-low-count" else 0.0

    def degraded(batch: dict[int, np.ndarray]) -> list[np.ndarray]:
        seeds = [(seed, z) for z in batch]
        return _degraded(list(batch.values()), task, chosen, scan.spacing_mm[1], seeds, brightest)

    slices, at_once = scan.shape[0], _PET_SLICES_AT_ONCE if task == "pet-low-count" else 1
    yield Progress(Phase.SIMULATING, 0, slices)
    work = each_on_one_thread(degraded, _batches(scan, at_once), math.ceil(slices / at_once))
    with matrices_freed(), closing(work) as results:
        for z, values in enumerate(chain.from_iterable(results)):
            output[z] = _as_type(values, output.dtype)
            region = (slice(z, z + 1), slice(0, scan.shape[1]), slice(0, scan.shape[2]))
            yield Progress(Phase.SIMULATING, z + 1, slices, region)
    record: dict[str, Any] = {"task": task, "strength": chosen, "meaning": STRENGTHS[task].meaning, "seed": seed}
    return scan.with_voxels(output, metadata={**scan.metadata, "simulation": record})


def _batches(scan: Scan, at_once: int) -> Iterator[dict[int, np.ndarray]]:
    """Yield slices along z, (Y, X), by their numbers; ScanError if one contains NaN or infinite values."""
    for first in range(0, scan.shape[0], at_once):
        batch = {}
        for z in range(first, min(first + at_once, scan.shape[0])):
            batch[z] = np.asarray(scan.voxels[z], np.float32)
            if not np.isfinite(batch[z]).all():
                raise ScanError(f"Slice {z} contains NaN or infinite values; replace them first.")
        yield batch


def _degraded(
    images: Sequence[np.ndarray],
    task: str,
    strength: float,
    pixel_mm: float,
    seeds: Sequence[tuple[int, int]],
    brightest: float,
) -> list[np.ndarray]:
    if task == "mri-sr":
        return [low_resolution(image, strength, seed=seed) for image, seed in zip(images, seeds, strict=True)]
    numbers = [int(np.random.default_rng(seed).integers(2**31)) for seed in seeds]
    if task == "pet-low-count":
        return _low_counts(images, strength, pixel_mm, numbers, brightest)
    results = []
    for image, number in zip(images, numbers, strict=True):
        # The missing part of a non-square slice is air.
        square, window = _square(image, _AIR_HU)
        results.append(low_dose(square, pixel_mm, strength * QUARTER_DOSE_NOISE_HU, seed=number)[window])
    return results


def _low_counts(
    images: Sequence[np.ndarray], dose_reduction: float, pixel_mm: float, seeds: Sequence[int], brightest: float
) -> list[np.ndarray]:
    """Simulate slices together; those with hardly any activity stay as they are."""
    results = list(images)
    shares = [float(image.sum()) / brightest if brightest else 0.0 for image in images]
    seen = [at for at, share in enumerate(shares) if share >= _LEAST_SHARE]
    if not seen:
        return results
    squares, windows = zip(*(_square(images[at], 0.0) for at in seen), strict=True)
    low = only_low_counts(
        squares,
        pixel_mm,
        # The scan is already blurred and filtered; once is enough.
        Acquisition(dose_reduction=dose_reduction, blur_mm=0.0),
        counts=[FULL_COUNTS * shares[at] for at in seen],
        seeds=[seeds[at] for at in seen],
    )
    for at, image, window in zip(seen, low, windows, strict=True):
        results[at] = image[window]
    return results


def _checked_strength(task: str, strength: float | None) -> float:
    if task not in STRENGTHS:
        raise ScanError(f'The task "{task}" cannot be simulated; choose one of {", ".join(STRENGTHS)}.')
    known = STRENGTHS[task]
    chosen = known.usual if strength is None else float(strength)
    if not (math.isfinite(chosen) and known.least <= chosen <= known.most):
        raise ScanError(
            f"The strength of {task} ({known.meaning}) must be from {known.least:g} to {known.most:g}; got {chosen:g}."
        )
    return chosen


def _check_scan(scan: Scan, task: str) -> None:
    modality = TASKS[task].modality
    if scan.modality not in (None, modality):
        raise ScanError(f"{task} is for {modality}, but this scan is {scan.modality}; choose another task.")
    if task != "mri-sr" and not math.isclose(scan.spacing_mm[1], scan.spacing_mm[2], rel_tol=1e-3):
        y, x = scan.spacing_mm[1:]
        raise ScanError(f"The pixels must be square for projection; they are {y:g} x {x:g} mm. Resample the scan.")
    if task != "ct-denoise" and min(float(np.min(scan.voxels[z])) for z in range(scan.shape[0])) < 0:
        raise ScanError(
            f"The values of {modality} must be 0 or more for the simulation; subtract the lowest value first."
        )
    if task == "mri-sr" and min(scan.shape[1:]) < 8:
        raise ScanError(
            f"A slice of {scan.shape[1]} x {scan.shape[2]} pixels is too small; 8 along each side are needed."
        )


def _largest_sum(scan: Scan) -> float:
    return max(float(np.sum(scan.voxels[z], dtype=np.float64)) for z in range(scan.shape[0]))


def _square(image: np.ndarray, outside: float) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Put an image into the centre of a square one; also return its position."""
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    window = (slice(top, top + height), slice(left, left + width))
    square = np.full((side, side), outside, np.float32)
    square[window] = image
    return square, window


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values.astype(np.float64)).clip(limits.min, limits.max).astype(dtype)
