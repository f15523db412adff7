"""The filled-in form of the Fine-tune panel, and the checks before training."""

# Without `from __future__ import annotations`: the form is made from the annotations.
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from napari.layers import Image

from ...errors import RestoreError
from ...scans.scan import Scan
from ...scans.slice_axis import choose_slice_axis
from ...tasks import TASKS
from ...training.annotations import EMPHASISE, KEEP, TRAIN, Coverage, Split, coverage
from ...training.options import FineTuneOptions, Mode
from ..layer_choice import LayerChoice, is_volume
from ..model_choice import ModelChoice

if TYPE_CHECKING:
    from ...training.material import Material

MODES = {
    "paired": (
        "pairs: scan and its reference",
        "Two registered scans of the same object, for example low and full dose",
    ),
    "reference": (
        "a good scan, degraded here",
        "Its degradation is simulated, in a strength that you choose",
    ),
    "noisy": ("a noisy scan alone", "Each slice is trained with its neighbours, whose noise is independent"),
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FineTuneChoice:
    """A filled-in form; the annotated fields have a row each, in this order, followed by those of `FineTuneOptions`.

    Attributes
    ----------
    mode
        One of `MODES`.
    scan_layer, reference_layer
        The layers of the noisy and of the good scan; None if the mode needs none.
    task, weights
        The task of the weights, and the weights to begin with.
    modality
        The modality that those were made for; None if unknown.
    strength, degraded, target, labels
        See `training.material.Material`.
    options
        How to fine-tune.
    """

    mode: Annotated[
        Mode,
        {
            "label": "Learn from",
            "tooltip": "The kind of training data",
            "choices": [(title, name) for name, (title, _) in MODES.items()],
        },
    ]
    scan_layer: Annotated[
        Image | None,
        {
            "label": "Scan",
            "tooltip": "The scan as acquired, noisy or of low resolution",
            "widget_type": LayerChoice,
            "accepts": is_volume,
        },
    ] = None
    reference_layer: Annotated[
        Image | None,
        {
            "label": "Reference",
            "tooltip": "The good scan of the same object, on the same grid",
            "widget_type": LayerChoice,
            "accepts": is_volume,
        },
    ] = None
    task: Annotated[
        str,
        {
            "label": "Task",
            "tooltip": "What the weights are for",
            "choices": [(task.title, task.name) for task in TASKS.values()],
        },
    ]
    weights: Annotated[str | Path, {"label": "Begin with", "widget_type": ModelChoice, "learned_only": True}]
    strength: Annotated[
        float | None,
        {"label": "Strength", "tooltip": "How strong the simulated degradation is", "min": 0, "step": 0.1},
    ] = None
    modality: str | None
    degraded: Scan | None
    target: Scan | None
    labels: Any
    options: FineTuneOptions

    @property
    def layer(self) -> Image:
        """The layer whose grid the labels are on, and on which previews are shown."""
        layer = self.reference_layer if self.mode == "reference" else self.scan_layer
        assert layer is not None
        return layer

    @property
    def scan(self) -> Scan:
        """The scan on the grid of the labels."""
        scan = self.degraded if self.degraded is not None else self.target
        assert scan is not None
        return scan

    @property
    def axis(self) -> int:
        """The array axis across the slices."""
        return choose_slice_axis(self.scan).axis

    def material(self) -> "Material":
        """Return the training data; this imports torch: off the GUI thread."""
        from ...training.material import Material

        return Material(self.degraded, self.target, self.labels, self.strength)


# Compared by identity: a new check is shown even if it says the same, since the form takes back what it offered.
@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The result of the checks before training.

    Attributes
    ----------
    covered
        Coverage of the labels; None without labels, or if they cannot be counted.
    split
        A sentence about the slices that are trained on and those that are held out.
    warnings
        Messages for the user.
    refusal
        Why training is not possible; "" if it is.
    can_be_forced
        Whether the user may train anyway.
    """

    covered: Coverage | None = None
    split: str = ""
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    can_be_forced: bool = False


def report_on(choice: FineTuneChoice) -> Report:
    """Check what was chosen; this reads slices and imports torch: off the GUI thread."""
    from ...training.material import check_material

    covered = None
    try:
        if choice.labels is not None and tuple(choice.labels.shape) == tuple(choice.scan.shape):
            covered = coverage(choice.labels, choice.axis)
        modality = choice.modality or TASKS[choice.task].modality
        checked = check_material(choice.material(), modality, force=choice.options.force)
    except RestoreError as error:
        return Report(covered, refusal=str(error), can_be_forced=not choice.options.force and _passes_if_forced(choice))
    split = checked.splits[0]
    useless = checked.useless or _nothing_marked(covered, split)
    refusal = f"Training is not possible: {useless}." if useless else ""
    return Report(covered, "" if checked.useless else in_words(split), checked.warnings, refusal)


def in_words(split: Split) -> str:
    """Return a line such as ``"Trains on slices 0-6, 12-15 (11), holds out 9 (1), leaves out 7-8, 10-11."``."""
    words = f"Trains on slices {ranges(split.training)} ({len(split.training)}), "
    words += f"holds out {ranges(split.held_out)} ({len(split.held_out)})"
    return words + (f", leaves out {ranges(split.between)} between them." if split.between else ".")


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges: ``"0-6, 9"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _nothing_marked(covered: Coverage | None, split: Split) -> str:
    """Return a message if slices are marked for training, but none of them is trained on; else ""."""
    if covered is None or not covered.slices[TRAIN]:
        return ""
    if covered.slices_with(TRAIN, EMPHASISE, KEEP) & set(split.training):
        return ""
    return (
        "nothing is marked 1 (train here) in a slice that is trained on; mark such slices, or choose others to hold out"
    )


def _passes_if_forced(choice: FineTuneChoice) -> bool:
    try:
        return not report_on(replace(choice, options=replace(choice.options, force=True))).refusal
    except RestoreError:
        return False
