"""The protocol of arXiv 2407.11087: schedule, intensity windows, metrics, layout of its data, and its figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..metrics import WINDOW_WIDTH, psnr, rmse, ssim
from ..restoration.intensity import IntensityRule
from .acceptance import CT_WINDOW_HU
from .config import Network, Schedule, Source, TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

PAPER_RULES = {
    "CT": IntensityRule("ct-hu", -1024.0, 3072.0, unit="HU"),
    "PET": IntensityRule("pet-suv", 0.0, 20.0, unit="SUV"),
    "MR": IntensityRule("mr-4095", 0.0, 4095.0, unit=""),
}
# What restored slices and references are clipped to before they are scored.
PAPER_WINDOWS = {"CT": CT_WINDOW_HU, "PET": (0.0, 20.0), "MR": (0.0, 4095.0)}
PAPER_SCHEDULE = Schedule(
    steps=300_000,
    batch=4,
    crop=128,
    learning_rate=2e-4,
    final_learning_rate=1e-6,
    warm_up_steps=0,
    optimiser="adam",
    weight_decay=0.0,
    gradient_norm=math.inf,
    average_decay=0.0,
    flips=False,
    rotations=False,
    loss="absolute",
    score_every=1000,
    score_slices=32,
    save_every=1000,
    readers=4,
)
# Folder of each task's data below the given one; the paper's PSNR in dB, SSIM, and RMSE in HU, SUV or grey values.
PAPER_FOLDERS = {"pet-low-count": "PET", "ct-denoise": "CT", "mri-sr": "MRI"}
PAPER_FIGURES = {
    "mri-sr": (32.09, 0.9408, 28.97),
    "ct-denoise": (33.80, 0.9198, 8.36),
    "pet-low-count": (37.33, 0.9474, 0.0852),
}
_DEGRADED, _TARGET = "LQ", "HQ"


def paper_tasks(task: str) -> tuple[str, ...]:
    """The tasks whose data a network for a task is trained on."""
    return tuple(PAPER_FOLDERS) if task == "all-in-one" else (task,)


def paper_source(data: Path, task: str, part: str) -> Source:
    """The pairs of one task: DATA/CT/train/LQ and HQ, with PET or MRI for CT, and validation or test for train.

    Raises
    ------
    ScanError
        There are no such folders.
    """
    folder = data / PAPER_FOLDERS[task] / part
    for side in (_DEGRADED, _TARGET):
        if not (folder / side).is_dir():
            raise ScanError(
                f"There is no folder {folder / side}; the data are expected as {PAPER_FOLDERS[task]}/train, validation "
                f"and test, with {_DEGRADED} (degraded) and {_TARGET} (reference) in each."
            )
    return Source(folder / _DEGRADED, folder / _TARGET, task)


def paper_config(data: Path, task: str) -> TrainConfig:
    """The paper's training for a task: the full network on its training data, selected on its validation data."""
    tasks = paper_tasks(task)
    return TrainConfig(
        data=tuple(paper_source(data, one, "train") for one in tasks),
        validation=tuple(paper_source(data, one, "validation") for one in tasks),
        network=Network(size="full"),
        schedule=PAPER_SCHEDULE,
        protocol="paper",
    )


def paper_score(restored: np.ndarray, reference: np.ndarray, modality: str) -> tuple[float, float, float]:
    """PSNR in dB, SSIM and RMSE of a slice (Y, X) in its unit, as the paper measures them.

    Both are clipped to the window of the modality; the data range is max - min of the reference after that. SSIM is
    averaged over windows around every pixel, with zero padding, unlike `metrics.ssim`, which only uses windows inside
    the slice.
    """
    shown, truth = (np.clip(np.asarray(image, np.float64), *PAPER_WINDOWS[modality]) for image in (restored, reference))
    spread = float(np.ptp(truth))
    beyond = WINDOW_WIDTH // 2
    return (
        psnr(shown, truth, spread),
        ssim(np.pad(shown, beyond), np.pad(truth, beyond), spread),
        rmse(shown, truth),
    )


def paper_restored(values: np.ndarray, modality: str) -> np.ndarray:
    """The network's output, (Y, X), in the unit of the scan and clipped to its intensity window."""
    rule = PAPER_RULES[modality]
    return np.clip(values.astype(np.float64) * (rule.high - rule.low) + rule.low, rule.low, rule.high)
