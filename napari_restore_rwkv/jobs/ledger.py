"""What a job writes down so that it can be stopped at any moment: what it is, and which units are done.

Inside the output, in the folder `job`: `job.json`, written before the first unit, and `done*.jsonl`, one line a unit,
appended once the unit's files are on the disk. Each process that restores has a file of lines to itself. A unit is a
slab of the output (see `scans.zarr_write`), and it is done when, and only when, it has a line.
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
from ..scans.durable import PARTIAL, sha256_of, sync_folder, sync_written, write_durably
from ..scans.zarr_read import OURS
from ..scans.zarr_write import ZarrLayout, create_image, plain_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..scans.scan import Scan

SCHEMA = 1
_FOLDER, _JOB, _COMPLETE = "job", "job.json", "complete.json"
_CHECK = "check"
_GROUP = "zarr.json"
_LINES = "done*.jsonl"


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """A line of the ledger.

    Attributes
    ----------
    unit
        Number of the slab.
    files
        Sha256 of each of its files, by name relative to the output.
    slices
        Sha256 of the input voxels of each of its slices, in their order.
    """

    unit: int
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
        What the result depends on; a job may be continued only with the same.
    layout
        How the output is cut into units.
    record
        The provenance as far as it was known at the start.
    changes
        A digest that changes when the input's files are touched, None where the input has none.

    Raises
    ------
    OutputError
        There is no such record, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / _FOLDER
        if not path.exists():
            raise OutputError(f"There is no {path}; check the name.")
        try:
            content = json.loads((self.folder / _JOB).read_bytes())
        except FileNotFoundError as error:
            raise OutputError(
                f"{path.name} was not written by a restoration of ours; give a folder ending in .ome.zarr that was."
            ) from error
        except ValueError as error:
            raise _damaged(path) from error
        if not _is_checked(content):
            raise _damaged(path)
        if content["schema"] != SCHEMA:
            raise OutputError(
                f"{path.name} was written by another version of this program (record {content['schema']}, this one "
                f"knows {SCHEMA}); use that version, or start over into a new output."
            )
        self.identity: dict[str, Any] = content["identity"]
        self.record: dict[str, Any] = content["record"]
        self.changes: str | None = content["changes"]
        self._metadata: dict[str, str] = content["metadata"]
        layout = content["layout"]
        self.layout = ZarrLayout(**{**layout, "shape": tuple(layout["shape"])})

    def done(self) -> dict[int, list[UnitRecord]]:
        """Return what was written down about each finished unit; a unit done twice has two records."""
        records: dict[int, list[UnitRecord]] = {}
        for line in self._lines():
            if line is not None and "unit" in line:
                record = UnitRecord(line["unit"], line["files"], tuple(line["slices"]))
                records.setdefault(record.unit, []).append(record)
        return records

    def runs(self) -> list[dict[str, Any]]:
        """Return what processes that came to their end said about how they worked."""
        return [line["run"] for line in self._lines() if line is not None and "run" in line]

    def damaged_lines(self) -> int:
        """Count lines that are not as they were written, besides one that a crash has cut off."""
        return sum(line is None for line in self._lines())

    def writer(self, name: str = "") -> LedgerWriter:
        """Return what appends lines; `name` tells processes apart that work at the same time."""
        return LedgerWriter(self.path, self.folder / (f"done-{name}.jsonl" if name else "done.jsonl"))

    def clean(self) -> None:
        """Remove what a crash has left, besides the units' own leftovers, and damaged lines; nobody may be at work."""
        for left in [*self.folder.glob(f"*{PARTIAL}"), *self.path.glob(f"*{PARTIAL}")]:
            left.unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*{PARTIAL}"):
            shutil.rmtree(left, ignore_errors=True)
        for file in self.folder.glob(_LINES):
            lines = list(_lines_of(file))
            if any(line is None for _, line in lines):
                write_durably(file, b"".join(text + b"\n" for text, line in lines if line is not None))

    def provenance(self) -> dict[str, Any]:
        """Return the provenance of a complete output."""
        group = json.loads((self.path / _GROUP).read_bytes())
        record: dict[str, Any] = group["attributes"][OURS]["restoration"]
        return record

    def is_complete(self) -> bool:
        """Whether the output bears the mark that is set last."""
        try:
            return bool(json.loads((self.path / _GROUP).read_bytes())["attributes"][OURS]["complete"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def damaged_metadata(self) -> list[str]:
        """Return the names of metadata files that are not as they were written."""
        expected = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self._metadata.items()}
        damaged = []
        if self.is_complete():
            try:
                mark = json.loads((self.folder / _COMPLETE).read_bytes())
            except (OSError, ValueError):
                mark = {}
            if not _is_checked(mark):
                return [f"{_FOLDER}/{_COMPLETE}"]
            expected[_GROUP] = mark["group"]
        for name, digest in expected.items():
            file = self.path / name
            if not file.is_file() or sha256_of(file) != digest:
                damaged.append(name)
        return damaged

    def mend_metadata(self) -> None:
        """Write metadata files anew that are damaged, and take the mark of completion away."""
        for name, text in self._metadata.items():
            file = self.path / name
            if not file.is_file() or file.read_bytes() != text.encode():
                file.parent.mkdir(exist_ok=True)
                write_durably(file, text.encode())

    def mark_complete(self, record: Mapping[str, Any]) -> None:
        """Write the provenance into the output and mark it complete, by one rename that comes last."""
        group = json.loads(self._metadata[_GROUP])
        group["attributes"][OURS] |= {"complete": True, "restoration": plain_json(record)}
        content = _as_bytes(group)
        mark = {"units": self.layout.slabs, "group": hashlib.sha256(content).hexdigest()}
        write_durably(self.folder / _COMPLETE, _as_bytes(_checked(mark)))
        write_durably(self.path / _GROUP, content)

    def _lines(self) -> Iterator[dict[str, Any] | None]:
        """Yield every line, None for one that is damaged; a last one without its end was never finished."""
        for file in sorted(self.folder.glob(_LINES)):
            for _, line in _lines_of(file):
                yield line


def slices_per_unit_of(path: Path) -> int | None:
    """How many slices an output that was begun saves together; None where there is no record that can be read."""
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
            # What a crash has cut off would spoil the next line.
            content = file.read_bytes()
            stream.truncate(content.rfind(b"\n") + 1)
            os.fsync(stream.fileno())
        if new:
            sync_folder(file.parent)

    def add_unit(self, unit: int, files: list[Path], slices: list[str]) -> None:
        """Write down that a unit is done, once its files are on the disk."""
        sync_written(self._output, files)
        digests = {str(file.relative_to(self._output).as_posix()): sha256_of(file) for file in files}
        self._append({"unit": unit, "files": digests, "slices": slices})

    def add_run(self, report: Mapping[str, Any]) -> None:
        """Write down how a process has worked that came to its end."""
        self._append({"run": plain_json(report)})

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(_checked(line)).encode() + b"\n"
        # What a full disk leaves of a line is cut off by the next writer.
        with self._file.open("ab") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())


def create_ledger(
    path: Path, scan: Scan, layout: ZarrLayout, identity: dict[str, Any], record: dict[str, Any], changes: str | None
) -> Ledger:
    """Make an output without voxels and its record, all of it at once or nothing.

    If another process makes the same output at the same time, one of the two wins and both get that one.
    """
    # Made beside its place, so that there is never an output without a record.
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        create_image(made, scan, layout, {"complete": False})
        (made / _FOLDER).mkdir()
        # To zarr the folder is a group without arrays, so that it does not wonder at what it finds.
        (made / _FOLDER / _GROUP).write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        names = [_GROUP, f"{_FOLDER}/{_GROUP}", *(f"{level}/{_GROUP}" for level in range(layout.levels))]
        content = {
            "schema": SCHEMA,
            "identity": identity,
            "layout": asdict(layout),
            "record": record,
            "changes": changes,
            "metadata": {name: (made / name).read_text("utf-8") for name in names},
        }
        sync_written(made, [made / name for name in names])
        write_durably(made / _FOLDER / _JOB, _as_bytes(_checked(plain_json(content))))
        sync_folder(made)
        with contextlib.suppress(FileExistsError):
            _rename(made, path)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync_folder(path.parent)
    return Ledger(path)


def _lines_of(file: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    *lines, _ = file.read_bytes().split(b"\n")
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        yield text, line if _is_checked(line) else None


def _rename(made: Path, path: Path) -> None:
    try:
        os.rename(made, path)
    except OSError as error:
        if (path / _FOLDER / _JOB).exists():
            raise FileExistsError(path) from error
        raise


def _as_bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with a digest of itself."""
    return {**content, _CHECK: _digest(content)}


def _is_checked(content: Any) -> bool:
    if not isinstance(content, dict) or _CHECK not in content:
        return False
    return bool(content[_CHECK] == _digest({key: value for key, value in content.items() if key != _CHECK}))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path) -> OutputError:
    return OutputError(f"{path.name} cannot be continued: its record {_JOB} is damaged; start over into a new output.")
