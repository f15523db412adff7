"""``restore-rwkv restore`` for a folder of scans: failures do not stop the rest, and a table shows the results."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, RestoreError
from ..jobs.ledger import Ledger
from ..scans.tiff.stack import TIFF_SUFFIXES
from ..scans.volume.files import volume_suffix
from ..scans.volume.streaming import HDF5_SUFFIXES
from ..untrusted import printable
from .terminal import note
from .wording import RESUME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .requests import Answer, RestoreRequest
    from .scans_below import Source

    Command = Callable[[RestoreRequest], Answer]

ZARR_SUFFIX = ".ome.zarr"


def restore_folder(request: RestoreRequest, scans: list[Source], left_out: list[str], restore: Command) -> Answer:
    """Restore scan after scan with the command for one of them; failures are listed at the end, and stop nothing.

    `left_out` are the names of files and folders without a scan.
    """
    folder = request.output
    if folder.exists() and (not folder.is_dir() or folder.samefile(request.input)):
        raise OutputError(f"{folder} is not a folder for results: give one that is empty, or does not exist yet.")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created ({error.strerror}): create its parent first.") from error
    if left_out:
        note(f"left out, because they contain no scan: {', '.join(left_out)}.")
    outputs = {source: folder / _result_name(source, request.format) for source in scans}
    # Over all parts, because two of them must not write the same result.
    owners: dict[Path, Source] = {}
    for source, output in outputs.items():
        owners.setdefault(output, source)
    if request.part:
        scans = scans[request.part[0] - 1 :: request.part[1]]
    rows: list[dict[str, Any]] = []
    written: dict[Path, Source] = {}
    for count, source in enumerate(scans):
        note(f"scan {count + 1} of {len(scans)}: {source.name}")
        output = outputs[source]
        row: dict[str, Any] = {"input": source.name, "output": output.name}
        start = time.perf_counter()
        try:
            if owners[output] != source:
                raise OutputError(f"{owners[output].name} has the same result name; rename one of the two.")
            _refuse_same_file(output, written)
            if request.resume and _is_there(output):
                row["state"] = "was there"
            else:
                values = _restore_one(request, source, output, restore)
                row |= {"state": "restored", "slices": values["slices"]}
        except KeyboardInterrupt as stop:
            there = sum(row["state"] != "failed" for row in rows)
            raise KeyboardInterrupt(
                f"{there} of {len(scans)} scans are done; continue with the same command and --resume"
            ) from stop
        except RestoreError as error:
            row |= {"state": "failed", "error": error.message(RESUME)}
        except Exception as error:
            # A defect in one file must not cost all other scans of the night.
            row |= {"state": "failed", "error": f"unexpected {type(error).__name__}: {error}"}
        if row["state"] != "failed":
            written[output] = source
        rows.append({**row, "seconds": round(time.perf_counter() - start, 3)})
    failed = sum(row["state"] == "failed" for row in rows)
    values = {"output": str(folder), "scans": rows, "failed": failed}
    return values, _summary(rows), 1 if failed else 0


def _restore_one(request: RestoreRequest, source: Source, output: Path, restore: Command) -> dict[str, Any]:
    zarr = output.name.endswith(ZARR_SUFFIX)
    one = replace(
        request,
        input=source.path,
        output=output,
        reading=replace(request.reading, series=source.series),
        part=None,
        overwrite=request.overwrite and not zarr,
        resume=request.resume and zarr,
    )
    values, _, _ = restore(one)
    return values


def _refuse_same_file(output: Path, written: dict[Path, Source]) -> None:
    """Raise OutputError where a disk that knows no capitals, or a link, makes a result of this run the place of one."""
    if output.exists():
        for other, source in written.items():
            if other.exists() and output.samefile(other):
                raise OutputError(f"{source.name} has its result in the same file; rename one of the two.")


def _is_there(output: Path) -> bool:
    """Whether a result is complete; files are moved into place when they are, folders are marked."""
    return output.is_file() or (output.is_dir() and Ledger(output).is_complete())


def _result_name(source: Source, chosen: str | None) -> str:
    """Name the result of a scan: by default in the same format, if that can be written."""
    suffix = volume_suffix(source.path) if source.path.is_file() else ""
    stem = source.name[: -len(suffix)] if suffix else source.name
    for ending in (ZARR_SUFFIX, ".zarr", *HDF5_SUFFIXES, *TIFF_SUFFIXES):
        if not suffix and source.name.lower().endswith(ending):
            stem, suffix = source.name[: -len(ending)], "" if ending in TIFF_SUFFIXES else ZARR_SUFFIX
            break
    own = {"": ".nii.gz", ".hdr": ".nii.gz", ".nhdr": ".nrrd"}.get(suffix, suffix)
    return stem + (chosen or own)


def _summary(rows: list[dict[str, Any]]) -> str:
    # A name may contain a line break.
    names = [printable(row["input"]) for row in rows]
    width = max(map(len, names))
    lines = [f"{'scan':<{width}}  {'slices':>6}  {'seconds':>8}  result"]
    for name, row in zip(names, rows, strict=True):
        outcome = printable(row["error"] if row["state"] == "failed" else f"{row['output']} ({row['state']})")
        lines.append(f"{name:<{width}}  {row.get('slices', ''):>6}  {row['seconds']:>8.1f}  {outcome}")
    failed = sum(row["state"] == "failed" for row in rows)
    lines.append(f"{len(rows) - failed} of {len(rows)} scans are done" + (f", {failed} failed" if failed else ""))
    return "\n".join(lines)
