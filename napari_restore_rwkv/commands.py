"""The work behind ``restore-rwkv restore``, ``evaluate`` and ``simulate``: files in, files and figures out.

Each command returns (values, text, exit code): plain values for ``--json``, the same as text for a person.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from .errors import CheckpointError, OutputError, ScanError
from .metrics import NAMES, Evaluation, evaluate
from .scans.files import read_scan, write_scan
from .scans.scan import Scan, to_canonical
from .scans.volume_files import SeveralFramesError
from .tasks import TASKS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    import torch

    from .network.checkpoint import Card
    from .progress import Progress


def restore_file(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Restore INPUT into OUTPUT; what can be refused is refused before the work starts."""
    check_output(arguments.output, arguments.input, arguments.overwrite)
    check_weights(arguments)
    scan = read_scan(arguments.input, modality=arguments.modality, time_index=arguments.time_index)
    dtype = result_type(scan, arguments.dtype)
    _check_space(scan, dtype, arguments.output)

    # Imported this late because torch takes seconds, and a wrong name should be answered at once.
    from .device import describe
    from .network.bi_wkv import kernel_in_use
    from .restoration.restore import restore

    device, network, task = prepare(arguments, scan)
    start = time.perf_counter()
    restored, slices = exhaust(
        restore(
            scan,
            network,
            axis=arguments.axis,
            dtype=dtype,
            device=device,
            any_modality=arguments.any_modality,
            precision=arguments.precision,
            batch=arguments.batch,
        )
    )
    seconds = time.perf_counter() - start
    write_scan(restored, arguments.output)
    provenance = restored.metadata["restoration"]
    kernel = kernel_in_use(device).name
    values = {
        "output": str(arguments.output),
        "slices": slices,
        "seconds": round(seconds, 3),
        "task": task,
        "device": str(device),
        "kernel": kernel,
        "intensity": provenance["intensity"],
        "provenance": provenance,
    }
    return (
        values,
        f"{arguments.output}: {slices} slices restored in {seconds:.1f} s ({task}, {describe(device)}, {kernel})"
        + precision_line(provenance),
        0,
    )


def check_weights(arguments: argparse.Namespace) -> None:
    """Refuse a folder given as weights."""
    if arguments.checkpoint and arguments.checkpoint.is_dir():
        raise CheckpointError(f"{arguments.checkpoint} is a folder: give a weights file.")


def prepare(arguments: argparse.Namespace, scan: Scan) -> tuple[torch.device, Any, str]:
    """Choose the device and load the network; return both with the name of the task."""
    weights = arguments.checkpoint or arguments.task or task_of(scan)

    import torch

    from .device import choose_device
    from .network.checkpoint import load_checkpoint

    if arguments.threads:
        # Far more threads than processors end the process.
        torch.set_num_threads(min(arguments.threads, os.cpu_count() or 1))
    device = choose_device(arguments.device)
    network = load_checkpoint(weights)
    return device, network, agree_on_task(network, arguments, scan)


def precision_line(provenance: dict[str, Any]) -> str:
    """Say what the result lost to numbers shorter than float32; "" for float32."""
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


def evaluate_files(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Score RESTORED against REFERENCE, slice by slice along z; both turned to the axial order if theirs differs."""
    restored = _read_frame(arguments.restored, arguments.time_index)
    reference = _read_frame(arguments.reference, arguments.time_index)
    if not np.allclose(restored.direction, reference.direction, rtol=0, atol=1e-3):
        restored, reference = to_canonical(restored), to_canonical(reference)
    result = evaluate(restored, reference, arguments.window)
    aligned = same_geometry(restored, reference)
    if not aligned:
        note("the two scans differ in voxel size, position or orientation; they were compared voxel by voxel.")
    values = {**result.as_dict(), "unit": reference.unit, "same_geometry": aligned}
    return values, _table(result, reference.unit), 0


def simulate_file(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Make INPUT worse and write it to OUTPUT, with a JSON record of how beside it."""
    check_output(arguments.output, arguments.input, arguments.overwrite)
    scan = read_scan(arguments.input, modality=arguments.modality, time_index=arguments.time_index)

    from .simulate.whole_scan import simulate

    worse, slices = exhaust(simulate(scan, arguments.task, seed=arguments.seed, strength=arguments.strength))
    record = worse.metadata["simulation"]
    write_scan(worse, arguments.output)
    beside = arguments.output.with_name(arguments.output.name + ".json")
    beside.write_text(json.dumps({"simulation": record}, indent=2) + "\n", encoding="utf-8")
    return (
        {"output": str(arguments.output), "slices": slices, "simulation": record},
        f"{arguments.output}: {slices} slices simulated ({record['task']}, strength {record['strength']:g}: "
        f"{record['meaning']}; seed {record['seed']})",
        0,
    )


def exhaust(steps: Generator[Progress, Any, Scan]) -> tuple[Scan, int]:
    """Run a restoration to its end; return the finished scan and the number of slices."""
    slices = 0
    with tqdm(unit="slice", file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        try:
            while True:
                progress = next(steps)
                slices = bar.total = progress.total
                bar.set_description(progress.what, refresh=False)
                bar.update(progress.done - bar.n)
        except StopIteration as end:
            return end.value, slices
        finally:
            steps.close()


def check_output(output: Path, source: Path, overwrite: bool = False) -> None:
    """Refuse an output that could not be written in the end.

    Raises
    ------
    OutputError
        Where the folder is missing or cannot be written into, the suffix is of no format that keeps the geometry, the
        output is the input or a folder, the name is too long, there is such a file (or one beside it that the result
        would replace) and ``overwrite`` is not set, or the voxel file of another scan has the name of ours.
    """
    folder = output.parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} does not exist: make it first, or choose another.")
    try:
        if source.exists() and output.exists() and output.samefile(source):
            raise OutputError(f"{output} is the scan to be restored: give the result another name.")
        if output.is_dir():
            raise OutputError(f"{output} is a folder: give the name of a file.")
        if output.exists() and not overwrite:
            raise OutputError(f"{output} exists already: give another name, or --overwrite to replace it.")
        # A scan of one voxel, written for real, meets whatever would stop the result in the end.
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as trial:
            write_scan(Scan(np.zeros((1, 1, 1), np.int16), metadata={"restoration": {}}), Path(trial) / output.name)
            beside = [path.name for path in Path(trial).iterdir() if path.name != output.name]
        _check_beside(output, beside, overwrite)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{output} cannot be written ({reason}): choose another folder or name.") from error


def _check_beside(output: Path, names: list[str], overwrite: bool) -> None:
    """Refuse to replace a file that would come to lie beside a new output and is there without it."""
    if output.exists():
        return
    for name in names:
        # The voxels of another scan are not replaced even if asked for.
        voxels = name.endswith(".raw")
        if output.with_name(name).exists() and (voxels or not overwrite):
            hint = "" if voxels else ", or --overwrite to replace it"
            raise OutputError(
                f"{output} cannot be written: {name} is there already and may belong to another scan; "
                f"give another name{hint}."
            )


def result_type(scan: Scan, chosen: str) -> np.dtype:
    """The voxel type of the result; ScanError where the chosen one cannot hold the values of the scan."""
    own = np.dtype(scan.voxels.dtype)
    if chosen == "auto":
        return own if own.kind in "iu" and own.itemsize > 1 else np.dtype(np.float32)
    dtype = np.dtype(chosen)
    finite = scan.voxels[np.isfinite(scan.voxels)] if own.kind == "f" else scan.voxels
    if dtype.kind == "f" or finite.size == 0:
        return dtype
    lowest, highest, limits = finite.min(), finite.max(), np.iinfo(dtype)
    if lowest < limits.min or highest > limits.max:
        raise ScanError(
            f"The values of the scan reach from {lowest:g} to {highest:g}, and {dtype} holds {limits.min} to "
            f"{limits.max}: choose another --dtype, or auto."
        )
    return dtype


def _check_space(scan: Scan, dtype: np.dtype, output: Path) -> None:
    """Refuse a result that does not fit on the disk, compressed or not."""
    needed, free = scan.voxels.size * dtype.itemsize, shutil.disk_usage(output.parent).free
    if needed > free:
        raise OutputError(
            f"{output} cannot be written: the result has {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free; "
            "free some space or choose another folder."
        )


def _read_frame(path: Path, time_index: int | None) -> Scan:
    """Read a scan; of a four-dimensional one the frame chosen, as a result may have one and its reference many."""
    try:
        return read_scan(path)
    except SeveralFramesError:
        if time_index is None:
            raise
        return read_scan(path, time_index=time_index)


def same_geometry(one: Scan, other: Scan) -> bool:
    """Whether two scans have the same spacing, origin (within 0.001 mm) and direction."""
    pairs = (
        (one.spacing_mm, other.spacing_mm),
        (one.origin_mm, other.origin_mm),
        (one.direction, other.direction),
    )
    return all(np.allclose(first, second, rtol=0, atol=1e-3) for first, second in pairs)


def task_of(scan: Scan) -> str:
    """The task made for the scan's modality."""
    for task in TASKS.values():
        if scan.modality is not None and task.modality == scan.modality:
            note(f"task {task.name}, because {scan.metadata['modality_reason']}.")
            return task.name
    reason = scan.metadata["modality_reason"]
    raise ScanError(f"Choose with --task or --modality: {reason}.")


def agree_on_task(network: Any, arguments: argparse.Namespace, scan: Scan) -> str:
    """The task of the weights, which must be the one asked for; weights without a card take the latter."""
    card: Card = network.card
    if card.task and arguments.task and card.task != arguments.task:
        raise CheckpointError(
            f"{arguments.checkpoint.name} holds weights for {card.task}, not for {arguments.task}: "
            "leave --task out, or give other weights."
        )
    if card.task:
        if arguments.checkpoint and not arguments.task:
            note(f"task {card.task}, because the weights say so.")
        return card.task
    task: str = arguments.task or task_of(scan)
    network.card = replace(card, task=task, modality=TASKS[task].modality)
    return task


def _table(result: Evaluation, unit: str) -> str:
    """The figures as lines of text, the mean last."""
    heads = ("slice", "PSNR dB", "SSIM", f"RMSE {unit}".rstrip(), "NRMSE")
    rows = [(str(z), *(getattr(score, name) for name in NAMES)) for z, score in enumerate(result.slices)]
    rows.append(("mean", *(result.mean[name] for name in NAMES)))
    lines = ["  ".join(f"{head:>10}" for head in heads)]
    lines += ["  ".join([f"{row[0]:>10}", *(f"{value:>10.4f}" for value in row[1:])]) for row in rows]
    window = "no window" if result.window is None else f"window {result.window[0]:g} to {result.window[1]:g} {unit}"
    lines.append(f"{window.rstrip()}; data range: max - min of each reference slice")
    return "\n".join(lines)


def note(words: str) -> None:
    """Tell the person at the terminal something that is neither the result nor an error."""
    print(f"restore-rwkv: {words}", file=sys.stderr)
