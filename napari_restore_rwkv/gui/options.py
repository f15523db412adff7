"""What can be chosen in the Restore panel, and what was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RestoreError
from ..tasks import TASKS, Task

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from ..scans.scan import Scan


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """One filled-in form.

    Attributes
    ----------
    layer, time_index
        The image layer, and its frame if it has four dimensions.
    weights
        Name of the task whose shipped weights are used, or the path of a weights file.
    region
        The displayed slice or the whole volume.
    device
        "auto", "cpu" or "cuda".
    any_modality
        Restore although the network was made for another modality.
    """

    layer: Image
    weights: str | Path
    time_index: int | None = None
    region: Literal["slice", "volume"] = "slice"
    device: str = "auto"
    any_modality: bool = False

    def continues(self, other: RestoreOptions | None) -> bool:
        """Whether slices restored with the other options are part of what these ask for."""
        return other is not None and replace(self, region="volume") == replace(other, region="volume")


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device in words: its name for `choose_device`, a line for the list, and why it is not faster ("" if it is)."""

    name: str
    title: str
    advice: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is there to restore with.

    Attributes
    ----------
    devices
        The devices, the one that would be chosen first.
    shipped
        For each task with shipped weights, a line on them such as ``"light, 2026-12"``.
    cards
        For the same tasks, the whole card in words.
    """

    devices: tuple[DeviceChoice, ...]
    shipped: dict[str, str]
    cards: dict[str, str]


@cache
def look_around() -> Surroundings:
    """Find devices and shipped weights; this imports torch and takes a second or two: off the GUI thread."""
    from ..network.checkpoint import shipped_checkpoints

    cards = {task: _read_card(task) for task in shipped_checkpoints()}
    return Surroundings(
        devices=_devices(),
        shipped={task: _card_line(card) for task, card in cards.items()},
        cards={task: _card_text(card) for task, card in cards.items()},
    )


def propose_task(scan: Scan) -> tuple[str, str]:
    """Return the task that fits a scan and the reason in words."""
    for task in TASKS.values():
        if scan.modality is not None and task.modality == scan.modality:
            return task.name, f"chosen because {scan.metadata.get('modality_reason', f'the scan is {scan.modality}')}"
    return next(iter(TASKS)), "the scan does not say its modality: please check the task"


def mismatch(task: Task, scan: Scan) -> str:
    """Return why a task does not suit a scan, in words; "" if it does, or if the scan does not say what it is."""
    if scan.modality is None or task.modality in (None, scan.modality):
        return ""
    return (
        f"{task.title} was made for {task.modality}, and this is a scan of modality {scan.modality}: choose another "
        'task, or tick "restore anyway".'
    )


def _devices() -> tuple[DeviceChoice, ...]:
    import torch

    from ..device import choose_device
    from ..network.bi_wkv import kernel_in_use

    found: list[DeviceChoice] = []
    no_gpu = ""
    for name in ("cuda", "cpu"):
        try:
            device = choose_device(name)
        except RestoreError as error:
            no_gpu = str(error)
            continue
        kernel = kernel_in_use(device)
        hardware = f"GPU: {torch.cuda.get_device_name(device)}" if name == "cuda" else "CPU"
        title = f"{hardware}, {kernel.name.replace('CPU kernel', 'kernel')}"
        found.append(DeviceChoice(name, title, " ".join(filter(None, (kernel.why, no_gpu)))))
    return tuple(found)


def _read_card(task: str) -> Any:
    from ..network.checkpoint import load_checkpoint

    return load_checkpoint(task).card


def _card_line(card: Any) -> str:
    return f"{card.title}, {card.created}" if card.created else card.title


def _card_text(card: Any) -> str:
    return " ".join(part for part in (f"{card.title}.", card.intended_use, card.limits) if part)
