"""The work behind jobs: restoring into OME-Zarr, whole folders of scans, and ``verify``, ``finalize`` and ``export``.

As in `commands`, each returns (values, text, exit code).
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from .commands import check_output, check_weights, note, precision_line, prepare, restore_file, result_type
from .errors import OutputError, RestoreError, ScanError
from .jobs.audit import check_place, finalize, numbers, verify
from .jobs.ledger import Ledger
from .scans.dicom import is_dicom
from .scans.export import export_scan
from .scans.opening import opening
from .scans.streaming import is_hdf5
from .scans.volume_files import volume_suffix
from .scans.zarr_read import is_zarr

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from .progress import Progress, Result
    from .scans.scan import Scan

ZARR_SUFFIX = ".ome.zarr"


def restore_command(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Restore a scan into a file or an OME-Zarr folder, or a folder of scans into another folder."""
    source, output = arguments.input, arguments.output
    if output.name.lower().endswith(".zarr"):
        return _restore_to_zarr(arguments)
    if source.is_dir() and not volume_suffix(output) and not is_zarr(source) and (scans := scans_in(source)):
        return _restore_folder(arguments, scans)
    only_zarr = [name for name in ("resume", "part", "scheduler") if getattr(arguments, name)]
    if only_zarr:
        raise OutputError(
            f"--{only_zarr[0]} is for results in OME-Zarr and for folders of scans: "
            f"give an OUTPUT ending in {ZARR_SUFFIX}."
        )
    return restore_file(arguments)


def verify_result(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Compare every file of a result with its digest; exit code 1 unless all is as it was written."""
    report = watch(verify(arguments.output), "unit")
    values = {
        "output": str(arguments.output),
        "units": report.units,
        "missing": report.missing,
        "bad": {str(unit): what for unit, what in report.bad.items()},
        "metadata": report.metadata,
        "damaged_lines": report.damaged_lines,
        "complete": report.complete,
        "sound": report.sound,
    }
    if report.sound:
        return values, f"{arguments.output}: all {report.units} units are as they were written", 0
    lines = [f"unit {unit}: {what}" for unit, what in report.bad.items()]
    if report.missing:
        lines.append(f"{len(report.missing)} of {report.units} units are not there yet ({numbers(report.missing)})")
    lines += [f"{name} has changed" for name in report.metadata]
    if report.damaged_lines:
        lines.append(f"the ledger has {report.damaged_lines} damaged lines")
    if not (report.complete or lines):
        lines.append("all units are there, but the result is not marked complete")
    lines.append("To put it right, give the restore command again with --resume: it does again what is named here.")
    return values, f"{arguments.output} is not sound:\n" + "\n".join(lines), 1


def finalize_result(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Check a result that was restored in parts, and mark it complete."""
    record = watch(finalize(arguments.output), "unit")
    return {"output": str(arguments.output), "provenance": record}, f"{arguments.output} is complete", 0


def export_result(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Write a finished result, or any scan that can be read, into a file of another kind."""
    check_output(arguments.file, arguments.output, arguments.overwrite)
    scan = watch(opening(arguments.output), "slice")
    watch(export_scan(scan, arguments.file), "slice")
    shape = " x ".join(map(str, scan.shape))
    return {"output": str(arguments.file), "shape": list(scan.shape)}, f"{arguments.file}: {shape} voxels written", 0


def watch(steps: Generator[Progress, Any, Result], unit: str) -> Result:
    """Run a job to its end with a progress bar on a terminal."""
    with tqdm(unit=unit, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        try:
            while True:
                progress = next(steps)
                bar.total = progress.total
                bar.set_description(progress.what, refresh=False)
                bar.update(progress.done - bar.n)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()


def scans_in(folder: Path) -> list[Path]:
    """Return the scans in a folder, by name: volume files, zarr folders and folders of DICOM files.

    A folder with DICOM files of its own is a scan itself, and has none.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in entries if path.is_file()]
    volumes = [path for path in files if volume_suffix(path) or is_hdf5(path)]
    if any(is_dicom(path) for path in files if path not in volumes):
        return []
    folders = [path for path in entries if path.is_dir() and (is_zarr(path) or _has_dicom(path))]
    return sorted([*volumes, *folders])


def _has_dicom(folder: Path) -> bool:
    return any(is_dicom(path) for path in sorted(folder.iterdir()) if path.is_file())


def _restore_to_zarr(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    resume = arguments.resume or arguments.part is not None
    if arguments.overwrite:
        raise OutputError("--overwrite replaces files only: remove the OME-Zarr folder yourself, or give another name.")
    if arguments.scheduler and arguments.part:
        raise OutputError("--scheduler and --part are two ways to share the work: give one of them.")
    check_place(arguments.output, resume)
    check_weights(arguments)
    options = {"modality": arguments.modality, "time_index": arguments.time_index, "channel": arguments.channel}
    scan = watch(opening(arguments.input, **options), "slice")
    dtype = _dtype(scan, arguments.dtype)

    # Imported this late because torch takes seconds, and a wrong name should be answered at once.
    from .device import describe
    from .jobs.job import ZarrJob
    from .network.bi_wkv import kernel_in_use

    device, network, task = prepare(arguments, scan)
    how = {
        "resume": resume,
        "axis": arguments.axis,
        "dtype": dtype,
        "device": device,
        "any_modality": arguments.any_modality,
        "precision": arguments.precision,
        "batch": arguments.batch,
    }
    if arguments.scheduler:
        from .jobs.cluster import ClusterJob, Source

        source = Source(
            str(arguments.input.resolve()),
            str(arguments.checkpoint.resolve() if arguments.checkpoint else task),
            device=arguments.device,
            batch=arguments.batch,
            **options,
        )
        job: ZarrJob = ClusterJob(arguments.scheduler, source, scan, network, arguments.output, **how)
    else:
        job = ZarrJob(scan, network, arguments.output, part=arguments.part, **how)
    start = time.perf_counter()
    restored = _watched(job.run(), arguments.output)
    seconds = time.perf_counter() - start
    record = restored.metadata.get("restoration")
    kernel = kernel_in_use(device).name
    values = {
        "output": str(arguments.output),
        "slices": job.slices,
        "units": job.layout.slabs,
        "seconds": round(seconds, 3),
        "task": task,
        "device": str(device),
        "kernel": kernel,
        "part": None if arguments.part is None else list(arguments.part),
        "complete": record is not None,
        "provenance": record,
    }
    done = "complete" if record else f"part {arguments.part[0]} of {arguments.part[1]} is done"
    return (
        values,
        f"{arguments.output}: {done}, {job.slices} slices in {seconds:.1f} s ({task}, {describe(device)}, {kernel})"
        + precision_line(record or {}),
        0,
    )


def _watched(steps: Generator[Progress, int | None, Scan], output: Path) -> Scan:
    """Run a job; where somebody stops it, say how it goes on."""
    try:
        return watch(_with_notes(steps), "slice")
    except KeyboardInterrupt as stop:
        if not output.exists():
            raise
        ledger = Ledger(output)
        raise KeyboardInterrupt(
            f"{len(ledger.done())} of {ledger.layout.slabs} units are done; go on with the same command and --resume"
        ) from stop


def _with_notes(steps: Generator[Progress, int | None, Scan]) -> Generator[Progress, None, Scan]:
    """Tell where the cluster can be watched, terminal or not."""
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        if "dashboard" in progress.what:
            note(f"{progress.what}.")
        try:
            yield progress
        except GeneratorExit:
            steps.close()
            raise


def _dtype(scan: Scan, chosen: str) -> np.dtype:
    """As `result_type`, without reading a large scan for its extreme values."""
    if chosen == "auto" or isinstance(scan.voxels, np.ndarray):
        return result_type(scan, chosen)
    dtype, own = np.dtype(chosen), np.dtype(scan.voxels.dtype)
    if dtype.kind == "f" or np.can_cast(own, dtype):
        return dtype
    raise ScanError(f"{dtype} cannot hold every {own}, and the scan is too large to look: choose auto or float32.")


def _restore_folder(arguments: argparse.Namespace, scans: list[Path]) -> tuple[dict[str, Any], str, int]:
    """Restore scan after scan; what fails is told in the end, and stops nothing."""
    folder = arguments.output
    if folder.exists() and (not folder.is_dir() or folder.samefile(arguments.input)):
        raise OutputError(f"{folder} is not a folder for results: give one that is empty, or not there yet.")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): make its parent first.") from error
    if arguments.part:
        scans = scans[arguments.part[0] - 1 :: arguments.part[1]]
    rows: list[dict[str, Any]] = []
    taken: dict[Path, Path] = {}
    for count, source in enumerate(scans):
        note(f"scan {count + 1} of {len(scans)}: {source.name}")
        output = folder / _result_name(source, arguments.format)
        row: dict[str, Any] = {"input": source.name, "output": output.name}
        start = time.perf_counter()
        try:
            if output in taken:
                raise OutputError(f"{taken[output].name} has the same result name; rename one of the two.")
            taken[output] = source
            if arguments.resume and _is_there(output):
                row["state"] = "was there"
            else:
                values = _restore_one(arguments, source, output)
                row |= {"state": "restored", "slices": values["slices"]}
        except KeyboardInterrupt as stop:
            there = sum(row["state"] != "failed" for row in rows)
            raise KeyboardInterrupt(
                f"{there} of {len(scans)} scans are there; go on with the same command and --resume"
            ) from stop
        except RestoreError as error:
            row |= {"state": "failed", "error": str(error)}
        except Exception as error:
            # A defect in one file must not cost the night's other scans.
            row |= {"state": "failed", "error": f"unexpected {type(error).__name__}: {error}"}
        rows.append({**row, "seconds": round(time.perf_counter() - start, 3)})
    failed = sum(row["state"] == "failed" for row in rows)
    values = {"output": str(folder), "scans": rows, "failed": failed}
    return values, _summary(rows), 1 if failed else 0


def _restore_one(arguments: argparse.Namespace, source: Path, output: Path) -> dict[str, Any]:
    one = argparse.Namespace(**vars(arguments))
    one.input, one.output, one.part = source, output, None
    zarr = output.name.endswith(ZARR_SUFFIX)
    one.overwrite = arguments.overwrite and not zarr
    one.resume = arguments.resume and zarr
    values, _, _ = restore_command(one)
    return values


def _is_there(output: Path) -> bool:
    """Whether a result is complete; files are moved into place when they are, folders are marked."""
    return output.is_file() or (output.is_dir() and Ledger(output).is_complete())


def _result_name(source: Path, chosen: str | None) -> str:
    """Name the result of a scan: by default of the same kind, where that can be written."""
    suffix = volume_suffix(source) if source.is_file() else ""
    stem = source.name[: -len(suffix)] if suffix else source.name
    for ending in (ZARR_SUFFIX, ".zarr", ".h5", ".hdf5"):
        if not suffix and source.name.lower().endswith(ending):
            stem, suffix = source.name[: -len(ending)], ZARR_SUFFIX
            break
    own = {"": ".nii.gz", ".nhdr": ".nrrd"}.get(suffix, suffix)
    return stem + (chosen or own)


def _summary(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["input"]) for row in rows)
    lines = [f"{'scan':<{width}}  {'slices':>6}  {'seconds':>8}  result"]
    for row in rows:
        told = row["error"] if row["state"] == "failed" else f"{row['output']} ({row['state']})"
        lines.append(f"{row['input']:<{width}}  {row.get('slices', ''):>6}  {row['seconds']:>8.1f}  {told}")
    failed = sum(row["state"] == "failed" for row in rows)
    lines.append(f"{len(rows) - failed} of {len(rows)} scans are there" + (f", {failed} failed" if failed else ""))
    return "\n".join(lines)
