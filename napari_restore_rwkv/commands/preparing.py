"""What every restoration needs before it starts: the scan, the type of the result, the network and its options."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError, ScanError
from ..scans.lazy import LARGE_BYTES
from ..scans.opening import opening
from ..scans.slice_axis import choose_slice_axis
from ..tasks import TASKS
from .terminal import note, watch
from .unchanged import InputWatch

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ..network.restorer import Card
    from ..scans.options import OpenOptions
    from ..scans.scan import Scan
    from .requests import RestoreRequest


@dataclass(frozen=True, slots=True)
class Setup:
    """How scans are restored.

    Attributes
    ----------
    name
        What `load_restorer` made the network from, valid in any working folder.
    network
        With its weights, on the CPU.
    task
        Name of what it does.
    device
        Where to compute.
    options
        Keywords that `restore` and `ZarrJob` share.
    """

    name: str
    network: Any
    task: str
    device: torch.device
    options: dict[str, Any]

    def described(
        self, output: Path, slices: int, seconds: float, record: dict[str, Any] | None
    ) -> tuple[dict[str, Any], str]:
        """Describe a result: plain values for ``--json``, and the end of the line of text."""
        from ..device import describe
        from ..network.restorer import kernel_of

        kernel = kernel_of(self.network, self.device)
        values = {
            "output": str(output),
            "slices": slices,
            "seconds": round(seconds, 3),
            "task": self.task,
            "weights": self.network.card.title,
            "device": str(self.device),
            "kernel": kernel,
            "provenance": record,
        }
        end = f"in {seconds:.1f} s ({self.task}, {self.network.card.title}, {describe(self.device)}, {kernel})"
        return values, end + tile_line(record or {}) + precision_line(record or {})


def check_weights(checkpoint: Path | None) -> None:
    """Refuse a folder given as weights."""
    if checkpoint and checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint} is a folder: give a weights file.")


def open_input(path: Path, reading: OpenOptions) -> Scan:
    """Open INPUT, lazily if it is large or read piece by piece anyway."""
    state = InputWatch(path, reading)
    scan = watch(opening(path, reading))
    state.check_read()
    for words in scan.metadata.get("notes", ()):
        note(f"{path.name}: {words}")
    return scan


def fits_in_memory(scan: Scan) -> bool:
    """Whether a scan is small enough to be restored in memory."""
    size = int(np.prod(scan.shape, dtype=np.int64)) * np.dtype(scan.voxels.dtype).itemsize
    return isinstance(scan.voxels, np.ndarray) or size <= LARGE_BYTES


def result_type(scan: Scan, chosen: str) -> np.dtype:
    """The voxel type of the result; ScanError if the chosen one cannot hold the values of the scan."""
    own = np.dtype(scan.voxels.dtype)
    if chosen == "auto":
        return own if own.kind in "iu" and own.itemsize > 1 else np.dtype(np.float32)
    dtype = np.dtype(chosen)
    if dtype.kind == "f" or np.can_cast(own, dtype):
        return dtype
    if not isinstance(scan.voxels, np.ndarray):
        raise ScanError(f"{dtype} cannot hold every {own}, and the scan is too large to check: choose auto or float32.")
    finite = scan.voxels[np.isfinite(scan.voxels)] if own.kind == "f" else scan.voxels
    if finite.size == 0:
        return dtype
    lowest, highest, limits = finite.min(), finite.max(), np.iinfo(dtype)
    if lowest < limits.min or highest > limits.max:
        raise ScanError(
            f"The values of the scan range from {lowest:g} to {highest:g}, but {dtype} holds {limits.min} to "
            f"{limits.max}: choose another --dtype, or auto."
        )
    return dtype


def prepare(request: RestoreRequest, scan: Scan, dtype: np.dtype) -> Setup:
    """Choose the device and load the network; the task is that of the weights, the requested one, or the scan's."""
    weights = request.checkpoint.resolve() if request.checkpoint else request.task or _task_of(scan)

    # Imported this late because torch takes seconds, and a wrong name should be reported at once.
    import torch

    from ..device import choose_device
    from ..network.checkpoint import FALLS_SHORT
    from ..network.classical import CLASSICAL, classical_name, load_restorer
    from ..restoration.tiles import Tile

    if request.threads:
        # Far more threads than CPU cores would crash the process.
        torch.set_num_threads(min(request.threads, os.cpu_count() or 1))
    device = choose_device(request.device)
    name = classical_name(str(weights)) if request.classical else str(weights)
    network: Any = load_restorer(name)
    if short := network.card.details.get(FALLS_SHORT):
        instead = "; --classical uses the classical filter instead" if network.card.task in CLASSICAL else ""
        note(f"these weights are experimental ({short}){instead}.")
    axis = choose_slice_axis(scan, request.axis)
    note(f"slices along {axis}.")
    noise, strength = _noise_and_strength(request, scan, axis.axis, network)
    options = {
        "axis": request.axis,
        "dtype": dtype,
        "device": device,
        "any_modality": request.any_modality,
        "precision": request.precision,
        "batch": request.batch,
        "tile": Tile(*request.tile) if request.tile else None,
        "noise": noise,
        "strength": strength,
    }
    return Setup(name, network, _agree_on_task(network, request, scan), device, options)


def _noise_and_strength(request: RestoreRequest, scan: Scan, axis: int, network: Any) -> tuple[float | None, float]:
    """Measure the noise if the weights use it; the strength is that of --strength, or the proposed one."""
    from ..restoration.context import uses_context
    from ..restoration.noise import measured_noise
    from ..restoration.suitability import TRAINED_FOR, suitability

    asks = uses_context(network)
    if not asks and TRAINED_FOR not in network.card.details:
        return None, 1.0 if request.strength is None else request.strength
    noise = measured_noise(scan, axis)
    if noise is None:
        return None, 1.0 if request.strength is None else request.strength
    proposed = suitability(noise, network.card)
    if proposed.reason:
        instead = " (--classical)" if proposed.classical else ""
        note(f"{proposed.reason.rstrip('.')}{instead}.")
    strength = proposed.strength if request.strength is None else request.strength
    return noise.sigma if asks else None, strength


def tile_line(provenance: dict[str, Any]) -> str:
    """Say that a result is approximate; "" for whole slices."""
    return f"\n{provenance['mode']}" if "tile" in provenance else ""


def precision_line(provenance: dict[str, Any]) -> str:
    """Say how far the result is from float32 because of lower precision; "" for float32."""
    error = provenance.get("precision_error")
    if not error:
        return ""
    if "unknown" in error:
        return f"\n{provenance['precision']}: how far it is from float32 could not be measured. {error['unknown']}"
    unit = f" {error['unit']}" if error["unit"] else ""
    return (
        f"\n{provenance['precision']}: at most {error['largest']:.3g}{unit} from float32 on the first slice "
        f"(RMS {error['rms']:.3g}{unit})"
    )


def _task_of(scan: Scan) -> str:
    """The task made for the scan's modality."""
    for task in TASKS.values():
        if scan.modality is not None and task.modality == scan.modality:
            note(f"task {task.name}, because {scan.metadata['modality_reason']}.")
            return task.name
    reason = scan.metadata["modality_reason"]
    raise ScanError(f"Choose with --task or --modality: {reason}.")


def _agree_on_task(network: Any, request: RestoreRequest, scan: Scan) -> str:
    """The task of the weights, which must be the requested one; weights without a card take the latter."""
    card: Card = network.card
    if card.task and request.task and card.task != request.task:
        given = request.checkpoint.name if request.checkpoint else card.title
        raise CheckpointError(
            f"{given} has weights for {card.task}, not for {request.task}: leave out --task, or give other weights."
        )
    if card.task:
        if request.checkpoint and not request.task:
            note(f"task {card.task}, because the weights say so.")
        return card.task
    task: str = request.task or _task_of(scan)
    network.card = replace(card, task=task, modality=TASKS[task].modality)
    return task
