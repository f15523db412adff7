"""Low-count PET: slices of real and of simulated uptake, reconstructed from all counts and from some of them.

Uptake comes from 32 FDG scans of limbs and trunks, a brain template and two CT scans for training, and from eight other
FDG scans and the labelled organs of a third CT for validation. Counts are simulated for all of them, with scanners,
reconstructions and voxels of every usual kind.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_restore_rwkv.metrics import psnr, rmse, ssim
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import Scan
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
from napari_restore_rwkv.training.train import Batch, TrainingOptions

from .losses import lesion_error
from .recipe import SARCOMA_SOURCE, Draw, Recipe, Rows, Watch, load_slices, save_slices, shortfall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import nn

GREY, WHITE = "seg_gm_mni152_nilearn_1mm.nii.gz", "seg_wm_mni152_nilearn_1mm.nii.gz"
CHEST, THORAX = "ct_chest_a.nrrd", "ct_thorax_b_1p5mm.nii.gz"
ABDOMEN, ORGANS = "ct_abdomen_c_3mm.nii.gz", "seg_abdomen_c_organs_3mm.nii.gz"

TRAINING_SUBJECTS, VALIDATION_SUBJECTS = range(1, 33), range(33, 41)
PHANTOM, REAL = "phantom", "real"

SIZE = 128
BRAIN_MM, TRUNK_MM = 2.0, 3.0
# Each slice is acquired once and thinned to a random dose reduction, uniform in its logarithm.
DOSE_REDUCTIONS, COUNTS = (3.0, 30.0), (3e5, 3e6)
# Differences between scanners and reconstructions: pixel side, and full width of the point spread and the post filter.
PIXELS_MM, BLURS_MM, FILTERS_MM = (2.0, 5.5), (4.0, 7.0), (2.0, 8.0)
MEASURED_REDUCTIONS = (4.0, 12.0, 24.0)
MEASURED_COUNTS = 1e6
MEASURED_SLICES, WATCHED_SLICES = tuple(range(8, 104, 4)), (3, 9, 15, 21)
CROPS, CROP_ODDS = ((64, 8), (96, 4), (SIZE, 2)), (0.4, 0.3, 0.3)
_COPIES_OF_TRUNK, _STEPS_PER_UNIT = 2, 1000.0
_LEAST_UPTAKE = 0.5  # SUV
# A slice with fewer pixels above that is almost empty; the body is where smoothed uptake is above this.
_FEWEST_PIXELS, _BODY_SUV, _BODY_MM = 100, 0.05, 10.0


def pack(scans: Path, folder: Path) -> None:
    """Write pairs.safetensors and, for every dose reduction measured, the pairs of the validation subjects."""
    start = time.monotonic()
    rng = np.random.default_rng(7)
    real = list(real_slices(scans, TRAINING_SUBJECTS, rng))
    save_slices(_acquired([*_training_slices(scans, rng), *real], rng), folder / "pairs.safetensors")
    for reduction in MEASURED_REDUCTIONS:
        for name, slices in ((PHANTOM, _validation_slices), (REAL, _real_validation_slices)):
            rng = np.random.default_rng(8)
            pairs = _acquired(list(slices(scans, rng)), rng, Acquisition(MEASURED_COUNTS, reduction))
            save_slices(pairs, folder / f"{name}_{reduction:g}.safetensors")
    print(f"packed in {time.monotonic() - start:.0f} s", flush=True)


def draw(folder: Path) -> Draw:
    """Return a function that draws low-count and full-count crops, and the hot lesion that each pixel belongs to."""
    pairs = load_slices(folder / "pairs.safetensors")
    low, full = ([_suv(image) for image in pairs[name]] for name in ("low", "full"))
    lesions = pairs["lesions"]

    def batch(rng: np.random.Generator) -> Batch:
        side, count = CROPS[rng.choice(len(CROPS), p=CROP_ODDS)]
        crops = []
        for _ in range(count):
            i, corner = int(rng.integers(len(low))), rng.integers(0, SIZE - side + 1, 2)
            flips = tuple(slice(None, None, step) for step in rng.choice((-1, 1), size=2))
            # Another patient weight or dose: the same image at another SUV.
            scale = np.float32(np.exp(rng.uniform(np.log(0.5), np.log(2.5))) / 20)
            window = np.s_[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
            values = [(scale * image[i][window][flips]).clip(0, 1) for image in (low, full)]
            crops.append([*values, lesions[i][window][flips].astype(np.int16)])
        first, second, marks = (torch.from_numpy(np.stack(images)[:, None]) for images in zip(*crops, strict=True))
        return first, second, marks

    return batch


def watch(folder: Path) -> Watch:
    """Gain in dB over the filtered reconstruction of the same counts, mean over a few slices and dose reductions.

    The score is that of the gains, minus a decibel for every tenth by which the mean uptake of lesions is off.
    """
    sets = {
        f"{name}_{reduction:g}": load_slices(folder / f"{name}_{reduction:g}.safetensors")
        for name in (PHANTOM, REAL)
        for reduction in MEASURED_REDUCTIONS
    }

    def score(network: nn.Module) -> dict[str, float]:
        gains, ratios = {}, {}
        for case, pairs in sets.items():
            watched = {name: [images[i] for i in WATCHED_SLICES] for name, images in pairs.items()}
            scored, lesions = _scored(network, watched)
            gains[f"gain_{case}"] = float(np.mean([one["psnr_after"] - one["psnr_before"] for one in scored]))
            ratios[f"lesions_{case}"] = float(lesions[:, 1].mean()) if len(lesions) else 1.0
        off = float(np.mean([abs(ratio - 1) for ratio in ratios.values()]))
        return {"score": sum(gains.values()) / len(gains) - 10 * off, **gains, **ratios}

    return score


def measure(folder: Path, network: nn.Module) -> Rows:
    """Rows of subject and dose reduction with figures before and after, and the mean uptake of lesions against full."""
    rows = []
    for name in (PHANTOM, REAL):
        for reduction in MEASURED_REDUCTIONS:
            scored, ratios = _scored(network, load_slices(folder / f"{name}_{reduction:g}.safetensors"))
            means = {figure: float(np.mean([one[figure] for one in scored])) for figure in scored[0]}
            rows.append(
                {
                    "uptake": name,
                    "dose_reduction": reduction,
                    **means,
                    "worst_gain": min(one["psnr_after"] - one["psnr_before"] for one in scored),
                    "lesions": len(ratios),
                    "lesion_mean_before": float(ratios[:, 0].mean()),
                    "lesion_mean_after": float(ratios[:, 1].mean()),
                    "lesions_within_10_percent": float((np.abs(ratios[:, 1] - 1) <= 0.1).mean()),
                }
            )
    return rows


def _scores(low: np.ndarray, restored: np.ndarray, full: np.ndarray) -> dict[str, float]:
    """Score a low-count slice and its restoration against the full-count one, in SUV."""
    return {
        "psnr_before": psnr(low, full),
        "psnr_after": psnr(restored, full),
        "ssim_before": ssim(low, full),
        "ssim_after": ssim(restored, full),
        "rmse_before": rmse(low, full),
        "rmse_after": rmse(restored, full),
    }


def falls_short(rows: Rows) -> str:
    """At least 0.5 dB more than the filtered reconstruction, and the mean uptake of lesions within a tenth.

    The benchmark measures the lead over tuned filters.
    """
    figures = {}
    for row in rows:
        where = f"at 1/{row['dose_reduction']:g} of the counts of {row['uptake']} uptake"
        figures[f"the mean gain in dB {where}"] = (row["psnr_after"] - row["psnr_before"], 0.5)
        figures[f"the mean uptake of lesions, as a share, {where}"] = (1 - abs(row["lesion_mean_after"] - 1), 0.9)
    return shortfall(figures)


def restored_slice(network: nn.Module, low: np.ndarray) -> np.ndarray:
    """Restore one slice in SUV, as inference does."""
    rule = choose_intensity(Scan(low[None], modality="PET", unit="SUV"))
    with torch.no_grad():
        return rule.from_network(network(torch.from_numpy(rule.to_network(low))[None, None])[0, 0].numpy(), low)


def _scored(network: nn.Module, pairs: dict[str, list[np.ndarray]]) -> tuple[list[dict[str, float]], np.ndarray]:
    """Scores of slices, and the mean uptake of every lesion before and after as a fraction of that at full count."""
    scored, ratios = [], []
    for low, full, marks in zip(pairs["low"], pairs["full"], pairs["lesions"], strict=True):
        before, clean = _suv(low), _suv(full)
        after = restored_slice(network, before)
        scored.append(_scores(before, after, clean))
        for mark in np.unique(marks[marks > 0]):
            uptake = [float(image[marks == mark].mean()) for image in (before, after, clean)]
            # Outside the field of view there is nothing to restore.
            if uptake[2] > _LEAST_UPTAKE:
                ratios.append([uptake[0] / uptake[2], uptake[1] / uptake[2]])
    return scored, np.array(ratios).reshape(-1, 2)


Slice = tuple[np.ndarray, np.ndarray, np.ndarray, float]  # activity, lesion map, attenuation per mm, pixel in mm


def real_slices(scans: Path, subjects: Sequence[int], rng: np.random.Generator, most: int = 16) -> Iterator[Slice]:
    """Real uptake: slices of FDG scans at pixels of any usual size, some with lesions added."""
    for subject in subjects:
        scan = read_scan(scans / uptake_file(subject))
        uptake = np.asarray(scan.voxels, np.float32).clip(0)
        chosen = [i for i in range(len(uptake)) if (uptake[i] > _LEAST_UPTAKE).sum() > _FEWEST_PIXELS]
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


def _real_validation_slices(scans: Path, rng: np.random.Generator) -> Iterator[Slice]:
    return real_slices(scans, VALIDATION_SUBJECTS, rng, most=3)


def _training_slices(scans: Path, rng: np.random.Generator) -> list[Slice]:
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


def _validation_slices(scans: Path, rng: np.random.Generator) -> list[Slice]:
    hu, labels = (np.asarray(read_scan(scans / name).voxels) for name in (ABDOMEN, ORGANS))
    # One patient: the same uptake in all slices.
    activity = organ_activity(labels, hu, rng)
    slices = []
    for z in MEASURED_SLICES:
        placed = _fitted(hu[z].astype(np.float32), -1024.0)
        slices.append((*_with_lesions(_fitted(activity[z], 0.0), TRUNK_MM, rng), attenuation(placed), TRUNK_MM))
    return slices


def _acquired(
    slices: list[Slice], rng: np.random.Generator, fixed: Acquisition | None = None
) -> dict[str, list[np.ndarray]]:
    """Low-count and full-count image and the lesions of every slice, each acquired once, in thousandths of SUV."""
    result: dict[str, list[np.ndarray]] = {"low": [], "full": [], "lesions": []}
    for i, (activity, lesions, mu, pixel_mm) in enumerate(slices):
        chosen = fixed or random_acquisition(rng)
        low, full = low_count(activity, pixel_mm, chosen, seed=int(rng.integers(2**31)), attenuation=mu)
        for name, image in (("low", low), ("full", full)):
            result[name].append(np.rint(image * _STEPS_PER_UNIT).clip(0, 65535).astype(np.uint16))
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


def _suv(packed: np.ndarray) -> np.ndarray:
    return packed.astype(np.float32) / np.float32(_STEPS_PER_UNIT)


RECIPE = Recipe(
    task="pet-low-count",
    stage="pet-low-count",
    start_from="pet-low-count@1",
    options=TrainingOptions(steps=1500, learning_rate=4e-4),
    training_scans={
        **{uptake_file(subject): SARCOMA_SOURCE for subject in TRAINING_SUBJECTS},
        GREY: "PyPI nilearn 0.14.1, datasets/data, BSD-3-Clause",
        WHITE: "PyPI nilearn 0.14.1, datasets/data, BSD-3-Clause",
        CHEST: "PyPI pyradiomics 3.0.1 (sdist), data/lung1_image.nrrd, BSD-3-Clause",
        THORAX: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/aorta_report, Apache-2.0",
    },
    validation_scans={
        **{uptake_file(subject): SARCOMA_SOURCE for subject in VALIDATION_SUBJECTS},
        ABDOMEN: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files, Apache-2.0",
        ORGANS: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files, Apache-2.0",
    },
    pack=pack,
    draw=draw,
    watch=watch,
    measure=measure,
    falls_short=falls_short,
    what_is_measured="PSNR in dB, SSIM, RMSE in SUV against the full-count image, mean over whole slices of real "
    "uptake, and of a phantom, of subjects never trained on; counts are simulated; before is OSEM of the same counts, "
    "filtered; lesion means are relative to the full-count image",
    intended_use="Reducing noise in reconstructed FDG PET of a quarter to one in 24 of the counts. Experimental. "
    "Research only.",
    limits="Experimental: trained and measured on real and simulated uptake with simulated counts (no scatter, randoms "
    "or time of flight), never on a real low-count scan. Small lesions may fade.",
    loss=lesion_error,
    experimental=True,
    details={
        "dose_reductions": DOSE_REDUCTIONS,
        "counts": COUNTS,
        "pixels_mm": PIXELS_MM,
        "blurs_mm": BLURS_MM,
        "filters_mm": FILTERS_MM,
        "crops": CROPS,
        "loss": "root mean square error of each crop, and how far the mean uptake of each hot lesion is off",
    },
)
