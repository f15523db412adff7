"""``verify``, ``finalize`` and ``export``: what is done with existing results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..jobs.audit import finalize, numbers, verify
from ..jobs.digests import combined_digest, slice_digest
from ..scans.dicom.writing import check_new_folder, write_derived_series
from ..scans.export import export_scan
from ..scans.files import read_as
from ..scans.opening import opening
from ..scans.options import OpenOptions
from ..scans.scan import AXES
from ..scans.writing import our_record
from ..untrusted import is_number, is_sha256, json_object, read_regular
from .outputs import check_output
from .terminal import note, watch

if TYPE_CHECKING:
    from pathlib import Path

    from ..scans.scan import Scan
    from .requests import Answer, ExportRequest, ResultRequest


def verify_result(request: ResultRequest) -> Answer:
    """Compare every file of a result with its digest; exit code 1 unless everything is as it was written."""
    report = watch(verify(request.output), "slab")
    values = {
        "output": str(request.output),
        "units": report.slabs,
        "missing": report.missing,
        "bad": {str(slab): what for slab, what in report.bad.items()},
        "metadata": report.metadata,
        "damaged_lines": report.damaged_lines,
        "complete": report.complete,
        "sound": report.sound,
    }
    if report.sound:
        every = f"all {report.slabs} slabs are as they were" if report.slabs != 1 else "the only slab is as it was"
        return values, f"{request.output}: {every} written", 0
    lines = [f"slab {slab}: {what}" for slab, what in report.bad.items()]
    if report.missing:
        lines.append(f"{len(report.missing)} of {report.slabs} slabs are missing ({numbers(report.missing)})")
    lines += [f"{name} has changed" for name in report.metadata]
    if report.damaged_lines:
        lines.append(f"the ledger has {report.damaged_lines} damaged lines")
    if not (report.complete or lines):
        lines.append("all slabs are done, but the result is not marked complete")
    lines.append("To fix this, run the restore command again with --resume: it redoes what is listed here.")
    return values, f"{request.output} is not intact:\n" + "\n".join(lines), 1


def finalize_result(request: ResultRequest) -> Answer:
    """Check a result that was restored in parts, and mark it complete."""
    record = watch(finalize(request.output), "slab")
    return {"output": str(request.output), "provenance": record}, f"{request.output} is complete", 0


def export_result(request: ExportRequest) -> Answer:
    """Write a finished result, or any scan that can be read, to a file of another format."""
    if request.dicom_from:
        return _export_dicom(request, request.dicom_from)
    check_output(request.file, request.output, request.overwrite)
    scan = watch(opening(request.output, request.reading))
    for words in scan.metadata.get("notes", ()):
        note(f"{request.output.name}: {words}")
    watch(export_scan(scan, request.file, overwrite=request.overwrite))
    return _export_answer(request, scan, "")


def _export_dicom(request: ExportRequest, source: Path) -> Answer:
    """Write a result as a DICOM series derived from the one that was restored."""
    folder, reading = request.file, request.reading
    if request.overwrite:
        raise OutputError("--overwrite only replaces files: remove the DICOM folder yourself, or give another name.")
    check_new_folder(folder)
    scan = watch(opening(request.output))
    record = _record(scan, request.output)
    frame, series = reading.time_index, reading.series
    original = read_as(source, OpenOptions(time_index=frame, series=series))
    _refuse_another_input(record, original, request.output.name, source.name)
    step = watch(
        write_derived_series(scan, folder, source, record, time_index=reading.time_index, series=reading.series)
    )
    rounded = f", rounded to steps of {step:.3g} {scan.unit}".rstrip() if step else ""
    values, text, code = _export_answer(request, scan, rounded)
    return values | {"step": step}, text, code


def _record(scan: Scan, path: Path) -> dict[str, Any]:
    """Return how a scan was restored, from its own metadata or the record beside its file."""
    record: Any = scan.metadata.get("restoration")
    if record is None and (beside := our_record(path)):
        record = json_object(read_regular(beside))
    if not isinstance(record, Mapping) or "input_sha256" not in record:
        raise OutputError(
            f"{path.name} has no record of a restoration, and only a restored scan can become a derived series; "
            "keep the .json file beside it, or give an OME-Zarr result."
        )
    known = is_sha256(record["input_sha256"]) and is_number(record.get("slices")) and record.get("slice_axis") in AXES
    if not known:
        raise OutputError(f"{path.name} has a damaged record of its restoration; export from an intact copy.")
    return dict(record)


def _refuse_another_input(record: dict[str, Any], original: Scan, result: str, series: str) -> None:
    """Refuse a series that is not the one that was restored: another patient's may have exactly the same position."""
    axis = AXES.index(record["slice_axis"])
    if record["slices"] != original.shape[axis]:
        raise OutputError(
            f"{result} has {record['slices']} restored slices, but {series} has {original.shape[axis]}: "
            "give the series that was restored, and a result with all its slices."
        )
    slices = (slice_digest(original.voxels.take(at, axis)) for at in range(original.shape[axis]))
    if combined_digest(slices) != record["input_sha256"]:
        raise OutputError(f"{result} was not restored from the voxels of {series}: give the series that was restored.")


def _export_answer(request: ExportRequest, scan: Scan, how: str) -> Answer:
    shape = " x ".join(map(str, scan.shape))
    values = {"output": str(request.file), "shape": list(scan.shape)}
    return values, f"{request.file}: {shape} voxels written{how}", 0
