"""A fine-tuning as a folder, so that another process can run it: ``job.json``, with the scans beside it.

Voxels are written as .npy files, slice by slice, and memory-mapped when read.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, ScanError
from ..scans.scan import Scan
from ..storage.durable import write_durably
from ..untrusted import json_object, path_inside, read_regular
from .material import Material
from .options import FineTuneOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

_JOB = "job.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What a process should do.

    Attributes
    ----------
    weights
        What `load_checkpoint` takes.
    material, options
        See `Material` and `FineTuneOptions`.
    output
        Bundle to write if the result is accepted; None makes a name in the bundles folder.
    threads
        Number of CPU threads.
    """

    weights: str
    material: tuple[Material, ...]
    options: FineTuneOptions
    output: Path | None
    threads: int


def write_job(
    folder: Path,
    weights: str | Path,
    material: Material | Sequence[Material],
    options: FineTuneOptions | None = None,
    *,
    output: Path | None = None,
    threads: int | None = None,
) -> None:
    """Describe a fine-tuning run in a new folder; voxels are copied into it slice by slice.

    Parameters
    ----------
    folder
        Created if missing. The state of the training also goes here, so that a started job can be restarted.
    threads
        Number of CPU threads; None leaves one to the viewer.

    Raises
    ------
    OutputError
        If the folder already contains a job, or cannot be written to.
    """
    everything = [material] if isinstance(material, Material) else list(material)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / _JOB).exists():
            raise OutputError(f"{folder} already contains a fine-tuning run; restart that one, or give another folder.")
        described = [_describe(one, folder, number) for number, one in enumerate(everything)]
        job = {
            "weights": str(weights if str(weights) == weights else Path(weights).resolve()),
            "material": described,
            "options": asdict(options or FineTuneOptions()),
            "output": None if output is None else str(output.resolve()),
            "threads": threads or max(1, (os.cpu_count() or 2) - 1),
        }
        write_durably(folder / _JOB, json.dumps(job, indent=2).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}; choose another folder.") from error


def read_job(folder: Path) -> Job:
    """Read what `write_job` wrote; the voxels stay on disk until they are needed.

    Raises
    ------
    ScanError
        If there is no such job, or its parts are damaged.
    """
    try:
        job = json_object(read_regular(folder / _JOB))
        options = dict(job["options"])
        if options["crops"] is not None:
            options["crops"] = tuple((int(side), int(count)) for side, count in options["crops"])
        return Job(
            weights=job["weights"],
            material=tuple(_material(one, folder) for one in job["material"]),
            options=FineTuneOptions(**options),
            output=None if job["output"] is None else Path(job["output"]),
            threads=int(job["threads"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScanError(f"{folder} contains no readable fine-tuning run ({error}); start a new one.") from error


def _describe(one: Material, folder: Path, number: int) -> dict[str, Any]:
    described: dict[str, Any] = {"strength": one.strength, "labels": None}
    for name, scan in (("degraded", one.degraded), ("target", one.target)):
        described[name] = None if scan is None else _scan_in(folder, f"{name}_{number}", scan)
    if one.labels is not None:
        described["labels"] = _array_in(folder, f"labels_{number}", one.labels)
    return described


def _scan_in(folder: Path, name: str, scan: Scan) -> dict[str, Any]:
    return {
        "voxels": _array_in(folder, name, scan.voxels),
        "spacing_mm": list(scan.spacing_mm),
        "modality": scan.modality,
        "unit": scan.unit,
    }


def _array_in(folder: Path, name: str, voxels: Any) -> str:
    file = f"{name}.npy"
    stored = np.lib.format.open_memmap(
        folder / file, mode="w+", dtype=np.dtype(voxels.dtype), shape=tuple(voxels.shape)
    )
    for i in range(voxels.shape[0]):
        stored[i] = np.asarray(voxels[i])
    stored.flush()
    return file


def _material(described: dict[str, Any], folder: Path) -> Material:
    labels = described["labels"]
    return Material(
        degraded=_scan(described["degraded"], folder),
        target=_scan(described["target"], folder),
        labels=None if labels is None else _array(folder, labels),
        strength=described["strength"],
    )


def _scan(described: dict[str, Any] | None, folder: Path) -> Scan | None:
    if described is None:
        return None
    z, y, x = described["spacing_mm"]
    return Scan(
        _array(folder, described["voxels"]),
        spacing_mm=(z, y, x),
        modality=described["modality"],
        unit=described["unit"],
    )


def _array(folder: Path, name: object) -> np.ndarray:
    """Map an array of the folder into memory."""
    return np.load(path_inside(folder, name), mmap_mode="r", allow_pickle=False)
