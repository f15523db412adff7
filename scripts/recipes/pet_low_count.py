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
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.pet import Acquisition
from napari_restore_rwkv.training.train import Batch, TrainingOptions

from .losses import lesion_error
from .pet_slices import (
    ABDOMEN,
    BLURS_MM,
    CHEST,
    COUNTS,
    DOSE_REDUCTIONS,
    FILTERS_MM,
    GREY,
    LEAST_UPTAKE,
    ORGANS,
    PIXELS_MM,
    SIZE,
    STEPS_PER_UNIT,
    THORAX,
    TRAINING_SUBJECTS,
    VALIDATION_SUBJECTS,
    WHITE,
    acquired,
    real_slices,
    real_validation_slices,
    training_slices,
    uptake_file,
    validation_slices,
)
from .recipe import SARCOMA_SOURCE, Draw, Recipe, Rows, Watch, load_slices, save_slices, shortfall

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

PHANTOM, REAL = "phantom", "real"

MEASURED_REDUCTIONS = (4.0, 12.0, 24.0)
MEASURED_COUNTS = 1e6
WATCHED_SLICES = (3, 9, 15, 21)
CROPS, CROP_ODDS = ((64, 8), (96, 4), (SIZE, 2)), (0.4, 0.3, 0.3)


def pack(scans: Path, folder: Path) -> None:
    """Write pairs.safetensors and, for every dose reduction measured, the pairs of the validation subjects."""
    start = time.monotonic()
    rng = np.random.default_rng(7)
    real = list(real_slices(scans, TRAINING_SUBJECTS, rng))
    save_slices(acquired([*training_slices(scans, rng), *real], rng), folder / "pairs.safetensors")
    for reduction in MEASURED_REDUCTIONS:
        for name, slices in ((PHANTOM, validation_slices), (REAL, real_validation_slices)):
            rng = np.random.default_rng(8)
            pairs = acquired(list(slices(scans, rng)), rng, Acquisition(MEASURED_COUNTS, reduction))
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
            if uptake[2] > LEAST_UPTAKE:
                ratios.append([uptake[0] / uptake[2], uptake[1] / uptake[2]])
    return scored, np.array(ratios).reshape(-1, 2)


def _suv(packed: np.ndarray) -> np.ndarray:
    return packed.astype(np.float32) / np.float32(STEPS_PER_UNIT)


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
