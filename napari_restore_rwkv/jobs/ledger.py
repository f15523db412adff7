"""What a job records so that it can be stopped at any moment: what it is, and which slabs are done.

Inside the output, in the folder `job`: `job.json`, written before the first slab, and `done*.jsonl`, one line per slab,
appended once the slab's files are on disk. Each restoring process has its own file of lines. A slab is a slab of the
output (see `scans.zarr.writing`), and it is done if and only if it has a line.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..scans.zarr.digests import FOLDER, LINES
from ..scans.zarr.reading import OURS
from ..scans.zarr.writing import create_image, plain_json
from ..storage.durable import PARTIAL, creating_errors, sha256_of, sync_folder, sync_written, write_durably
from ..untrusted import UnsafeNameError, is_number, is_sha256, json_object, path_inside, read_regular
from .record import GROUP, JOB, SCHEMA, checked, damaged, is_checked, metadata_names, read_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..scans.scan import Scan
    from ..scans.zarr.writing import ZarrLayout

_COMPLETE = "complete.json"
# More than a job of a million slices has.
_LARGEST_LEDGER = 1 << 30


@dataclass(frozen=True, slots=True)
class SlabRecord:
    """A line of the ledger.

    Attributes
    ----------
    slab
        Number of the slab.
    files
        Sha256 of each of its files, by name relative to the output.
    slices
        Sha256 of the input voxels of each of its slices, in order.
    """

    slab: int
    files: dict[str, str]
    slices: tuple[str, ...]


class Ledger:
    """The record of one output.

    Parameters
    ----------
    path
        The output.

    Attributes
    ----------
    identity
        What the result depends on; a job may only be continued with the same identity.
    layout
        How the output is divided into slabs.
    record
        The provenance as far as it was known at the start.
    changes
        A digest that changes when the input's files are modified, None if the input has none.
    metadata
        Text of each metadata file as it was written, by its name relative to the output.

    Raises
    ------
    OutputError
        There is no such record, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / FOLDER
        content = read_record(path)
        self.identity: dict[str, Any] = content.identity
        self.record: dict[str, Any] = content.provenance
        self.changes: str | None = content.changes
        self.layout: ZarrLayout = content.layout
        self.metadata: dict[str, str] = content.metadata

    def place(self, name: str) -> Path:
        """Return the file of the output with this name; OutputError if it is a link that leads outside the output."""
        try:
            return path_inside(self.path, name)
        except UnsafeNameError as error:
            raise OutputError(
                f"{self.path.name} cannot be used: its record {error}. It may have been forged; start over with a new "
                "output."
            ) from error

    def done(self) -> dict[int, list[SlabRecord]]:
        """Return the records of each finished slab; a slab done twice has two."""
        records: dict[int, list[SlabRecord]] = {}
        for line in self._lines():
            if line is not None and "unit" in line:
                record = SlabRecord(line["unit"], line["files"], tuple(line["slices"]))
                records.setdefault(record.slab, []).append(record)
        return records

    def runs(self) -> list[dict[str, Any]]:
        """Return what processes that finished reported about how they worked."""
        return [line["run"] for line in self._lines() if line is not None and "run" in line]

    def damaged_lines(self) -> int:
        """Count lines that are not as they were written, apart from one cut off by a crash."""
        return sum(line is None for line in self._lines())

    def writer(self, name: str = "") -> LedgerWriter:
        """Return a writer that appends lines; `name` distinguishes processes that work at the same time."""
        return LedgerWriter(self.path, self.place(f"{FOLDER}/" + (f"done-{name}.jsonl" if name else "done.jsonl")))

    def clean(self) -> None:
        """Remove leftovers of a crash, except those of slabs, and damaged lines; no other process may be at work."""
        for left in [*self.folder.glob(f"*{PARTIAL}"), *self.path.glob(f"*{PARTIAL}")]:
            left.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*{PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
        for file in self.folder.glob(LINES):
            lines = list(self._lines_of(file))
            if any(line is None for _, line in lines):
                write_durably(file, b"".join(text + b"\n" for text, line in lines if line is not None))

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of a complete output."""
        try:
            record = self._marked()["restoration"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(self.path) from error
        if not isinstance(record, dict):
            raise damaged(self.path)
        return record

    def is_complete(self) -> bool:
        """Whether the output has the completion mark, which is set last."""
        try:
            return self._marked()["complete"] is True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def damaged_metadata(self) -> list[str]:
        """Return the names of metadata files that are not as they were written."""
        expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.metadata.items()}
        if self.is_complete():
            try:
                mark = json_object(read_regular(self.place(f"{FOLDER}/{_COMPLETE}")))
            except (OSError, ValueError):
                mark = {}
            if not (is_checked(mark) and is_sha256(mark.get("group"))):
                return [f"{FOLDER}/{_COMPLETE}"]
            expected[GROUP] = mark["group"]
        return [name for name, digest in expected.items() if not _has_digest(self.place(name), digest)]

    def repair_metadata(self) -> None:
        """Rewrite metadata files that are damaged, and remove the mark of completion."""
        for name, text in self.metadata.items():
            file = self.place(name)
            if not _has_digest(file, hashlib.sha256(text.encode()).hexdigest()):
                file.parent.mkdir(exist_ok=True)
                write_durably(file, text.encode())

    def mark_complete(self, record: Mapping[str, Any]) -> None:
        """Write the provenance into the output and mark it complete, by one rename that comes last."""
        group = json.loads(self.metadata[GROUP])
        group["attributes"][OURS] |= {"complete": True, "restoration": plain_json(record)}
        content = _as_bytes(group)
        mark = {"units": self.layout.slabs, "group": hashlib.sha256(content).hexdigest()}
        write_durably(self.place(f"{FOLDER}/{_COMPLETE}"), _as_bytes(checked(mark)))
        write_durably(self.place(GROUP), content)

    def _marked(self) -> dict[str, Any]:
        """Attributes of this program in the group on disk."""
        ours: dict[str, Any] = json_object(read_regular(self.place(GROUP)))["attributes"][OURS]
        return ours

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        """Yield every line, None for a damaged one; a last line without its end was never finished."""
        for file in sorted(self.folder.glob(LINES)):
            for _, line in self._lines_of(file):
                yield line

    def _lines_of(self, file: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        try:
            content = read_regular(self.place(f"{FOLDER}/{file.name}"), _LARGEST_LEDGER)
        except ValueError as error:
            raise OutputError(f"{self.path.name} cannot be used: {error}; start over with a new output.") from error
        *lines, _ = content.split(b"\n")
        for text in lines:
            yield text, _line(text, self.layout)


def slices_per_slab_of(path: Path) -> int | None:
    """How many slices an unfinished output saves together; None if there is no readable record."""
    try:
        return Ledger(path).layout.slab
    except (OutputError, NotADirectoryError):
        return None


class LedgerWriter:
    """Appends lines to one file of the ledger, of which it is the only writer."""

    def __init__(self, output: Path, file: Path) -> None:
        self._output, self._file = output, file
        new = not file.exists()
        with file.open("ab") as stream:
            # A line cut off by a crash would corrupt the next one.
            content = file.read_bytes()
            stream.truncate(content.rfind(b"\n") + 1)
            os.fsync(stream.fileno())
        if new:
            sync_folder(file.parent)

    def add_slab(self, slab: int, files: list[Path], slices: list[str]) -> None:
        """Record that a slab is done, once its files are on disk."""
        sync_written(self._output, files)
        digests = {str(file.relative_to(self._output).as_posix()): sha256_of(file) for file in files}
        self._append({"unit": slab, "files": digests, "slices": slices})

    def add_run(self, report: Mapping[str, Any]) -> None:
        """Record how a finished process worked."""
        self._append({"run": plain_json(report)})

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(checked(line)).encode() + b"\n"
        # What a full disk leaves of a line is removed by the next writer.
        with self._file.open("ab") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


def create_ledger(
    path: Path, scan: Scan, layout: ZarrLayout, identity: dict[str, Any], record: dict[str, Any], changes: str | None
) -> Ledger:
    """Create an output without voxels and its record, atomically.

    If another process creates the same output at the same time, one of the two wins and both get that one.

    Raises
    ------
    OutputError
        It cannot be created there; nothing is left of it.
    """
    # Created beside its final place, so that there is never an output without a record.
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    with creating_errors(path):
        try:
            create_image(made, scan, layout, {"complete": False})
            (made / FOLDER).mkdir()
            # To zarr the folder is a group without arrays, so it does not warn about unknown files.
            (made / FOLDER / GROUP).write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
            names = metadata_names(layout.levels)
            content = {
                "schema": SCHEMA,
                "identity": identity,
                "layout": asdict(layout),
                "record": record,
                "changes": changes,
                "metadata": {name: (made / name).read_text("utf-8") for name in names},
            }
            sync_written(made, [made / name for name in names])
            write_durably(made / FOLDER / JOB, _as_bytes(checked(plain_json(content))))
            sync_folder(made)
            with contextlib.suppress(FileExistsError):
                _rename(made, path)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    sync_folder(path.parent)
    return Ledger(path)


def _line(text: bytes, layout: ZarrLayout) -> dict[str, Any] | None:
    """Return a line of the ledger, None if it is damaged or describes something that this output does not have."""
    try:
        line = json_object(text, strict=True)
    except ValueError:
        return None
    fits = is_checked(line) and ("unit" not in line or _is_slab(line, layout)) and isinstance(line.get("run", {}), dict)
    return line if fits else None


def _is_slab(line: dict[str, Any], layout: ZarrLayout) -> bool:
    """Whether a line describes a slab of this output and exactly its files and slices."""
    slab, files, slices = line["unit"], line.get("files"), line.get("slices")
    return (
        is_number(slab)
        and 0 <= slab < layout.slabs
        and isinstance(files, dict)
        and files.keys() == set(layout.files(slab))
        and isinstance(slices, list)
        and len(slices) == len(layout.slices(slab))
        and all(is_sha256(digest) for digest in [*files.values(), *slices])
    )


def _has_digest(file: Path, digest: str) -> bool:
    return file.is_file() and sha256_of(file) == digest


def _rename(made: Path, path: Path) -> None:
    try:
        os.rename(made, path)
    except OSError as error:
        if (path / FOLDER / JOB).exists():
            raise FileExistsError(path) from error
        raise


def _as_bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"
