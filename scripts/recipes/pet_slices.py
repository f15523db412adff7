"""Slices of real and of simulated uptake, and their acquisition with all counts and with some of them.

Each is a square of `SIZE` pixels with its lesions and attenuation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.simulate.activity import (
    WATER_PER_MM,
    attenuation,
    brain_activity,
    organ_activity,
    textured,
    tissue_activity,
    with_lesions,
)
from napari_restore_rwkv.simulate.mri import resampled
from napari_restore_rwkv.simulate.pet import Acquisition, gaussian, low_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

GREY, WHITE = "seg_gm_mni152_nilearn_1mm.nii.gz", "seg_wm_mni152_nilearn_1mm.nii.gz"
CHEST, THORAX = "ct_chest_a.nrrd", "ct_thorax_b_1p5mm.nii.gz"
ABDOMEN, ORGANS = "ct_abdomen_c_3mm.nii.gz", "seg_abdomen_c_organs_3mm.nii.gz"

TRAINING_SUBJECTS, VALIDATION_SUBJECTS = range(1, 33), range(33, 41)
SIZE = 128
BRAIN_MM, TRUNK_MM = 2.0, 3.0
# Each slice is acquired once and thinned to a random dose reduction, uniform in its logarithm.
DOSE_REDUCTIONS, COUNTS = (3.0, 30.0), (3e5, 3e6)
# Differences between scanners and reconstructions: pixel side, and full width of the point spread and the post filter.
PIXELS_MM, BLURS_MM, FILTERS_MM = (2.0, 5.5), (4.0, 7.0), (2.0, 8.0)
STEPS_PER_UNIT = 1000.0
LEAST_UPTAKE = 0.5  # SUV
_MEASURED_SLICES, _COPIES_OF_TRUNK = tuple(range(8, 104, 4)), 2
# A slice with fewer pixels above that is almost empty; the body is where smoothed uptake is above this.
_FEWEST_PIXELS, _BODY_SUV, _BODY_MM = 100, 0.05, 10.0

Slice = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # activity, lesion map, attenuation per mm, pixel in mm


def real_slices(scans: Path, subjects: Sequence[int], rng: np.random.Generator, most: int = 16) -> Iterator[Slice]:
    """Real uptake: slices of FDG scans at pixels of any usual size, some with lesions added."""
    for subject in subjects:
        scan = read_scan(scans / uptake_file(subject))
        uptake = np.asarray(scan.voxels, np.float32).clip(0)
        chosen = [i for i in range(len(uptake)) if (uptake[i] > LEAST_UPTAKE).sum() > _FEWEST_PIXELS]
        for i in rng.permutation(chosen)[:most]:
            pixel_mm = float(rng.uniform(*PIXELS_MM))
            activity = _fitted(_coarser(uptake[i], scan.spacing_mm[1] / pixel_mm).clip(0), 0.0)
            # Soft tissue attenuates like water, and takes up some tracer everywhere.
            body = gaussian(torch.from_numpy(activity), _BODY_MM / pixel_mm).numpy() > _BODY_SUV
            hot, lesions = with_lesions(activity, pixel_mm, rng, most=3)
            yield hot, lesions, np.where(body, np.float32(WATER_PER_MM), np.float32(0)), pixel_mm


def uptake_file(subject: int) -> str:
    """Name of the FDG scan of a subject of the soft-tissue sarcoma collection."""
    return f"sts/sts_{subject:03d}_pet.nii.gz"


def real_validation_slices(scans: Path, rng: np.random.Generator) -> Iterator[Slice]:
    """Real uptake of the subjects that are not trained on."""
    return real_slices(scans, VALIDATION_SUBJECTS, rng, most=3)


def training_slices(scans: Path, rng: np.random.Generator) -> list[Slice]:
    """Simulated uptake of a brain template and of two CT scans."""
    grey, white = (np.asarray(read_scan(scans / name).voxels) / 255 for name in (GREY, WHITE))
    slices = []
    for axis in range(3):
        maps = [np.moveaxis(volume, axis, 0)[20:-20:4] for volume in (grey, white)]
        for one, other in zip(*maps, strict=True):
            if (one + other).sum() < 1500:
                continue
            parts = [_fitted(_coarser(image.astype(np.float32), 1 / BRAIN_MM), 0.0) for image in (one, other)]
            activity = brain_activity(parts[0], parts[1], rng)
            # The head around the brain attenuates about like a disc of water of its size.
            slices.append((*_with_lesions(activity, BRAIN_MM, rng, most=2), 0.0085 * (activity > 0), BRAIN_MM))
    for name, step in ((CHEST, 1), (THORAX, 3)):
        scan = read_scan(scans / name)
        for image in np.asarray(scan.voxels)[::step]:
            for _ in range(_COPIES_OF_TRUNK):
                millimetres = TRUNK_MM * np.exp(rng.uniform(-0.3, 0.3))
                hu = _fitted(
                    _coarser(image.astype(np.float32) + 1024, scan.spacing_mm[1] / millimetres) - 1024, -1024.0
                )
                activity = _regional(tissue_activity(hu, rng), rng)
                slices.append((*_with_lesions(activity, TRUNK_MM, rng), attenuation(hu), TRUNK_MM))
    return slices


def validation_slices(scans: Path, rng: np.random.Generator) -> list[Slice]:
    """Simulated uptake of the organs of a CT scan that is not trained on."""
    hu, labels = (np.asarray(read_scan(scans / name).voxels) for name in (ABDOMEN, ORGANS))
    # One patient: the same uptake in all slices.
    activity = organ_activity(labels, hu, rng)
    slices = []
    for z in _MEASURED_SLICES:
        placed = _fitted(hu[z].astype(np.float32), -1024.0)
        slices.append((*_with_lesions(_fitted(activity[z], 0.0), TRUNK_MM, rng), attenuation(placed), TRUNK_MM))
    return slices


def acquired(
    slices: list[Slice], rng: np.random.Generator, fixed: Acquisition | None = None
) -> dict[str, list[np.ndarray]]:
    """Low-count and full-count image and the lesions of every slice, each acquired once, in thousandths of SUV."""
    result: dict[str, list[np.ndarray]] = {"low": [], "full": [], "lesions": []}
    for i, (activity, lesions, mu, pixel_mm) in enumerate(slices):
        chosen = fixed or random_acquisition(rng)
        low, full = low_count(activity, pixel_mm, chosen, seed=int(rng.integers(2**31)), attenuation=mu)
        for name, image in (("low", low), ("full", full)):
            result[name].append(np.rint(image * STEPS_PER_UNIT).clip(0, 65535).astype(np.uint16))
        result["lesions"].append(lesions)
        if i % 50 == 0:
            print(f"{i} of {len(slices)}", flush=True)
    return result


def random_acquisition(rng: np.random.Generator) -> Acquisition:
    """Counts, dose reduction and reconstruction of any usual kind."""
    counts, reduction = (float(np.exp(rng.uniform(*np.log(span)))) for span in (COUNTS, DOSE_REDUCTIONS))
    blur, smoothing = (float(rng.uniform(*span)) for span in (BLURS_MM, FILTERS_MM))
    return Acquisition(counts, reduction, blur, smoothing, iterations=int(rng.integers(2, 5)))


def _with_lesions(
    activity: np.ndarray, pixel_mm: float, rng: np.random.Generator, most: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    return with_lesions(textured(activity, pixel_mm, rng), pixel_mm, rng, most)


def _regional(activity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Regions of soft tissue with higher or lower uptake, like organs: cells around random points."""
    points = rng.uniform(0, SIZE, (12, 2))
    y, x = np.mgrid[:SIZE, :SIZE]
    nearest = np.hypot(y[..., None] - points[:, 0], x[..., None] - points[:, 1]).argmin(axis=-1)
    levels = np.exp(rng.normal(0.2, 0.5, len(points))).astype(np.float32)
    return activity * np.take(levels, nearest)


def _coarser(image: np.ndarray, scale: float) -> np.ndarray:
    return resampled(image, (round(image.shape[0] * scale), round(image.shape[1] * scale)))


def _fitted(image: np.ndarray, outside: float) -> np.ndarray:
    """Centre an image on SIZE x SIZE pixels: crop it if too large, pad it if too small."""
    placed = np.full((SIZE, SIZE), outside, np.float32)
    source, target = [], []
    for length in image.shape:
        source.append(slice(max(0, (length - SIZE) // 2), max(0, (length - SIZE) // 2) + min(length, SIZE)))
        target.append(slice(max(0, (SIZE - length) // 2), max(0, (SIZE - length) // 2) + min(length, SIZE)))
    placed[tuple(target)] = image[tuple(source)]
    return placed
