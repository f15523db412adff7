"""One network for CT, MR and PET: batches of the three tasks in turn, as in the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_restore_rwkv.network.checkpoint import KEEPS_MEASURED
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS
from napari_restore_rwkv.training.train import Batch, TrainingOptions

from . import ct_denoise, mri_sr, pet_low_count
from .recipe import Draw, Recipe, Rows, Watch

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

PARTS = {part.RECIPE.task: part.RECIPE for part in (ct_denoise, mri_sr, pet_low_count)}
# Sharpening is learned most slowly.
ODDS = (0.3, 0.45, 0.25)


def pack(scans: Path, folder: Path) -> None:
    """Pack each task into its own folder."""
    for task, recipe in PARTS.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        recipe.pack(scans, folder / task)


def draw(folder: Path) -> Draw:
    """Return a function that draws a batch of one of the tasks, with the number of the task appended."""
    draws = [recipe.draw(folder / task) for task, recipe in PARTS.items()]

    def batch(rng: np.random.Generator) -> Batch:
        task = int(rng.choice(len(draws), p=ODDS))
        return *draws[task](rng), torch.tensor(task)

    return batch


def error_of_task(restored: Tensor, clean: Tensor, degraded: Tensor, *rest: Tensor) -> Tensor:
    """Judge each task as its own recipe does; the last of `rest` is the number of the task."""
    *others, task = rest
    judge = list(PARTS.values())[int(task)].loss
    assert judge is not None
    return judge(restored, clean, degraded, *others)


def watch(folder: Path) -> Watch:
    """The scores of the tasks, and their mean."""
    watches = {task: recipe.watch(folder / task) for task, recipe in PARTS.items()}

    def score(network: nn.Module) -> dict[str, float]:
        rows = {task: one(network) for task, one in watches.items()}
        named = {f"{task}.{name}": value for task, row in rows.items() for name, value in row.items()}
        return {"score": sum(row["score"] for row in rows.values()) / len(rows), **named}

    return score


def measure(folder: Path, network: nn.Module) -> Rows:
    """The rows of all tasks."""
    return [{"task": task, **row} for task, recipe in PARTS.items() for row in recipe.measure(folder / task, network)]


def falls_short(rows: Rows) -> str:
    """The parts' own sentences, joined."""
    told = ((task, part.falls_short([row for row in rows if row["task"] == task])) for task, part in PARTS.items())
    return "; ".join(f"{task}: {words}" for task, words in told if words)


RECIPE = Recipe(
    task="all-in-one",
    stage="all-in-one",
    start_from="all-in-one",
    context=CONTEXT_CHANNELS,
    options=TrainingOptions(steps=1500),
    training_scans={name: source for recipe in PARTS.values() for name, source in recipe.training_scans.items()},
    validation_scans={name: source for recipe in PARTS.values() for name, source in recipe.validation_scans.items()},
    pack=pack,
    draw=draw,
    watch=watch,
    measure=measure,
    falls_short=falls_short,
    what_is_measured=" | ".join(f"{task}: {recipe.what_is_measured}" for task, recipe in PARTS.items()),
    intended_use="One network for noise in CT, resolution in MR and counts in PET, where one set of weights must do. "
    "Research only.",
    limits="As for the three tasks; each is done better by weights of its own.",
    loss=error_of_task,
    card_details={KEEPS_MEASURED: True},
    details={"odds": dict(zip(PARTS, ODDS, strict=True))},
)
