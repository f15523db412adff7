"""The devices and models available on this computer, and which of them are proposed for a scan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RestoreError
from ..tasks import TASKS, Task

if TYPE_CHECKING:
    from pathlib import Path

    from ..scans.scan import Scan

NO_GPU = "PyTorch finds no NVIDIA GPU on this computer; if there is one, its driver is missing or too old."
PYTORCH_WITHOUT_GPU = (
    "This PyTorch was built for the CPU only; if this computer has an NVIDIA GPU, install a PyTorch for it: "
    "pytorch.org/get-started."
)
BELOW_ALL_BUT_HU = -500
SLICES_LOOKED_AT, VALUES_PER_AXIS = 5, 64


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device as listed.

    Attributes
    ----------
    name
        For `choose_device`.
    title, details
        A line short enough for the list, and the full description.
    advice
        Why it is not faster; "" if there is nothing to improve.
    """

    name: str
    title: str
    details: str
    advice: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model to restore with, as listed.

    Attributes
    ----------
    weights
        The value for `RestoreOptions.weights`.
    title
        A line such as ``"light, 2026-12"``.
    card
        The text of the card.
    modality
        Modality it was made for; None if it takes any, or if unknown.
    learned
        Whether it is a network, which can be fine-tuned.
    """

    weights: str | Path
    title: str
    card: str
    modality: str | None = None
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The available devices and models.

    Attributes
    ----------
    devices
        The devices, the default one first.
    models
        The models shipped for each task, the proposed one first; a task without any is left out.
    """

    devices: tuple[DeviceChoice, ...]
    models: dict[str, tuple[ModelEntry, ...]]


@cache
def look_around() -> Surroundings:
    """Find devices and shipped weights; this imports torch and takes a second or two: off the GUI thread."""
    models = {task: _models(task) for task in TASKS}
    return Surroundings(devices=_devices(), models={task: entries for task, entries in models.items() if entries})


def could_be_hu(scan: Scan) -> bool:
    """Whether the values are or can be HU; a few slices are searched for air only if the file does not say."""
    if scan.unit == "HU" or scan.modality is not None:
        return scan.unit == "HU" or scan.modality == "CT"
    steps = [max(1, size // VALUES_PER_AXIS) for size in scan.shape[1:]]
    places = np.linspace(0, scan.shape[0] - 1, min(SLICES_LOOKED_AT, scan.shape[0])).round().astype(int)
    slices = (np.asarray(scan.voxels[z : z + 1, :: steps[0], :: steps[1]]) for z in places)
    return any(bool((values < BELOW_ALL_BUT_HU).any()) for values in slices)


def propose_task(scan: Scan, hu: bool) -> tuple[str, str]:
    """Return the task that fits a scan and the reason in words; `hu` says whether its values can be HU."""
    for task in TASKS.values():
        if scan.modality is not None and task.modality == scan.modality:
            return task.name, f"chosen because {scan.metadata.get('modality_reason', f'the scan is {scan.modality}')}"
    unsaid = "the file does not say its modality: please check the task"
    if hu:
        return "ct-denoise", f"the values look like HU, and {unsaid}"
    return "mri-sr", f"the values are not in HU, and {unsaid}"


def mismatch(task: Task, scan: Scan, hu: bool) -> str:
    """Return why a task does not suit a scan, in words; "" if it does, or if nothing contradicts it."""
    if scan.modality is None:
        what = "" if hu or task.modality != "CT" else "the values of this scan are not in HU"
    else:
        what = "" if task.modality in (None, scan.modality) else f"this is a scan of modality {scan.modality}"
    if not what:
        return ""
    return f'{task.title} was made for {task.modality}, and {what}: choose another task, or tick "restore anyway".'


def no_weights(task: Task) -> str:
    """Return the message that a task has no weights, and what to do."""
    return f"There are no weights for {task.title} yet: choose a weights file under Model."


def short_title(hardware: str, kernel: str) -> str:
    """Return a device and its kernel in a line that fits the list: without manufacturer, threads or instruction set."""
    maker, threads, instructions = r"(?<=GPU: )NVIDIA (GeForce )?", r", \d+ threads?$", r" CPU(?= kernel)| \(.*\)$"
    return f"{re.sub(f'{maker}|{threads}', '', hardware)}, {re.sub(instructions, '', kernel)}"


def _devices() -> tuple[DeviceChoice, ...]:
    import torch

    from ..device import choose_device, describe
    from ..network.bi_wkv import kernel_in_use

    found: list[DeviceChoice] = []
    no_gpu = ""
    for name in ("cuda", "cpu"):
        try:
            device = choose_device(name)
        except RestoreError:
            no_gpu = NO_GPU if torch.version.cuda else PYTORCH_WITHOUT_GPU
            continue
        kernel = kernel_in_use(device)
        advice = " ".join(filter(None, (kernel.why, no_gpu)))
        hardware = describe(device)
        found.append(DeviceChoice(name, short_title(hardware, kernel.name), f"{hardware}, {kernel.name}", advice))
    return tuple(found)


def _models(task: str) -> tuple[ModelEntry, ...]:
    """The shipped weights and the classical filter; the filter comes first if the weights miss their requirements."""
    from ..network.checkpoint import FALLS_SHORT, shipped_checkpoints
    from ..network.classical import CLASSICAL, load_restorer

    offered = [task] if task in shipped_checkpoints() else []
    offered += [CLASSICAL[task]] if task in CLASSICAL else []
    cards: dict[str, Any] = {name: load_restorer(name).card for name in offered}
    offered.sort(key=lambda name: bool(cards[name].details.get(FALLS_SHORT)))
    return tuple(_entry(name, cards[name], learned=name == task) for name in offered)


def _entry(name: str, card: Any, learned: bool) -> ModelEntry:
    return ModelEntry(name, _card_line(card), _card_text(card), card.modality, learned)


def _card_line(card: Any) -> str:
    # Year and month: the whole date does not fit beside "experimental".
    return f"{card.title}, {card.created[:7]}" if card.created else card.title


def _card_text(card: Any) -> str:
    from ..network.checkpoint import FALLS_SHORT

    short = card.details.get(FALLS_SHORT)
    missed = f"Experimental, because on a subject never trained on {short}." if short else ""
    return " ".join(part for part in (f"{card.title}.", card.intended_use, missed, card.limits) if part)
