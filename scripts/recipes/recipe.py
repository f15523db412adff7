"""What every recipe defines, whatever the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file
from torch import nn

from napari_restore_rwkv.training.train import Batch, Loss, TrainingOptions

if TYPE_CHECKING:
    from pathlib import Path

Draw = Callable[[np.random.Generator], Batch]
# Figures of a network on the validation subject, by name; a higher "score" is better.
Watch = Callable[[nn.Module], dict[str, float]]
Rows = list[dict[str, Any]]
SARCOMA_SOURCE = "GitHub theibsi/data_sets, ibsi_validation/nifti (TCIA Soft-tissue-Sarcoma), CC BY 3.0"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the weights of one task are made.

    Attributes
    ----------
    task
        One of `napari_restore_rwkv.tasks.TASKS`.
    stage
        Name of its folder of packed data and state: that of the task, or another one for initial weights.
    start_from
        Initial weights, as `load_checkpoint` takes them, or another stage whose name is not that of a task; None starts
        from a new network, the identity.
    options
        The schedule.
    training_scans, validation_scans
        Scans by file name, each with the package that it comes from and that package's licence.
    pack
        Called with the folder of the scans and the folder to write the packed data into.
    draw
        Called with the folder of packed data; returns a function that draws a batch, in network units.
    watch
        Called with the same folder; returns a function that scores a network during training: few slices, ``"score"``
        among the figures.
    measure
        Called with the same folder and a fused network; returns the rows of the card's table.
    what_is_measured
        One sentence about those rows.
    falls_short
        Called with those rows; says by how much the weights miss their requirements, "" if they meet them. Weights
        that fall short are experimental, and the classical filter is offered first.
    intended_use, limits
        Sentences of the card.
    context
        See `RestoreRWKV`.
    loss
        See `Trainer`.
    damping
        The fraction of the network's change that is shipped, chosen on training subjects: on a scan unlike those, a
        smaller change does less harm.
    experimental
        Whether the weights are experimental whatever their scores, for example if only simulations can be measured.
    details
        What else the card should say about the recipe.
    card_details
        What else the card should say about the weights, such as ``"keeps_measured"``.
    """

    task: str
    stage: str
    start_from: str | None
    options: TrainingOptions
    training_scans: Mapping[str, str]
    validation_scans: Mapping[str, str]
    pack: Callable[[Path, Path], None]
    draw: Callable[[Path], Draw]
    watch: Callable[[Path], Watch]
    measure: Callable[[Path, nn.Module], Rows]
    what_is_measured: str
    falls_short: Callable[[Rows], str]
    intended_use: str
    limits: str
    context: int = 0
    loss: Loss | None = None
    damping: float = 1.0
    experimental: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    card_details: Mapping[str, Any] = field(default_factory=dict)


def shortfall(figures: Mapping[str, tuple[float, float]]) -> str:
    """Say which figures miss their requirements, such as "gain at x2 is 0.55, not 1"; "" if none does.

    Parameters
    ----------
    figures
        For each measurement, its name and its minimum.
    """
    return "; ".join(
        f"{name} is {value:.3g}, not {least:g}" for name, (value, least) in figures.items() if not value >= least
    )


def save_slices(groups: Mapping[str, list[np.ndarray]], path: Path) -> None:
    """Pack slices of any shape and type, in named groups, into one safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{name}.{i:04d}": np.ascontiguousarray(image)
        for name, images in groups.items()
        for i, image in enumerate(images)
    }
    save_file(arrays, path)


def load_slices(path: Path) -> dict[str, list[np.ndarray]]:
    """Read a file that `save_slices` wrote."""
    groups: dict[str, list[np.ndarray]] = {}
    for key, image in sorted(load_file(path).items()):
        groups.setdefault(key.rsplit(".", 1)[0], []).append(image)
    return groups
