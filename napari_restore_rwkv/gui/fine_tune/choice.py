"""What was filled in to fine-tune on, and what can be said about it before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import RestoreError
from ...scans.slice_axis import choose_slice_axis
from ...training.annotations import EMPHASISE, KEEP, TRAIN, Split, coverage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from ...scans.scan import Scan
    from ...tasks import Task
    from ...training.annotations import Coverage
    from ...training.material import Material, Mode
    from ..surroundings import ModelEntry


@dataclass(frozen=True, slots=True, eq=False)
class FineTuneChoice:
    """One filled-in form.

    Attributes
    ----------
    mode, degraded, target, labels, strength
        See `training.material.Material`.
    layer
        The layer whose grid the labels are on, and on which previews are shown.
    task, model
        What the weights are for, and those to begin with.
    steps, device, force
        See `training.options.FineTuneOptions`.
    """

    mode: Mode
    layer: Image
    degraded: Scan | None
    target: Scan | None
    labels: Any
    strength: float | None
    task: Task
    model: ModelEntry
    steps: int
    device: str
    force: bool

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

    def material(self) -> Material:
        """Return it as the training takes it; this imports torch: off the GUI thread."""
        from ...training.material import Material

        return Material(self.degraded, self.target, self.labels, self.strength)


@dataclass(frozen=True, slots=True)
class Report:
    """What can be said before training.

    Attributes
    ----------
    covered
        What the labels cover; None without labels, or where they cannot be counted.
    split
        Which slices are trained on and which are held out, in words.
    warnings
        Sentences for the person.
    refusal
        Why it cannot be trained on; "" if it can.
    can_be_forced
        Whether the person may go on all the same.
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
        modality = choice.model.modality or choice.task.modality
        checked = check_material(choice.material(), modality, force=choice.force)
    except RestoreError as error:
        return Report(covered, refusal=str(error), can_be_forced=not choice.force and _passes_if_forced(choice))
    split = checked.splits[0]
    useless = checked.useless or _nothing_marked(covered, split)
    refusal = f"Nothing can be learned: {useless}." if useless else ""
    return Report(covered, "" if checked.useless else in_words(split), checked.warnings, refusal)


def in_words(split: Split) -> str:
    """Return a line such as ``"Trains on slices 0-6, 12-15 (11), holds out 9 (1), leaves out 7-8, 10-11."``."""
    words = f"Trains on slices {ranges(split.training)} ({len(split.training)}), "
    words += f"holds out {ranges(split.held_out)} ({len(split.held_out)})"
    return words + (f", leaves out {ranges(split.between)} between them." if split.between else ".")


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in short: ``"0-6, 9"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _nothing_marked(covered: Coverage | None, split: Split) -> str:
    """Say so where something is marked for training, but in no slice that is trained on."""
    if covered is None or not covered.slices[TRAIN]:
        return ""
    if covered.slices_with(TRAIN, EMPHASISE, KEEP) & set(split.training):
        return ""
    return (
        "nothing is marked 1 (train here) in a slice that is trained on; mark such slices, or choose others to hold out"
    )


def _passes_if_forced(choice: FineTuneChoice) -> bool:
    try:
        return not report_on(replace(choice, force=True)).refusal
    except RestoreError:
        return False
