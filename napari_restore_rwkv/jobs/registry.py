"""The job registry: jobs that this user has started and not finished, so that a viewer can offer to resume them.

Each has its own small file in the user's folder, written as a whole and removed when the job is complete, so that two
programs do not interfere. Only the ledger of a job knows how far it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..storage.durable import write_durably
from ..untrusted import json_object, read_regular
from ..user_folder import user_data_folder
from .ledger import Ledger
from .lock import at_work

SCHEMA = 1
_FOLDER = "begun"


@dataclass(frozen=True, slots=True)
class BegunJob:
    """What is needed to continue a job; none of it comes from inside the scan.

    Attributes
    ----------
    output
        The OME-Zarr folder, absolute.
    weights
        Name of a task, or the file of the weights.
    input
        File or folder that the scan was read from; None if it came from elsewhere.
    time_index, channel, series
        Which part of the input, as for `opening`.
    device
        As for `choose_device`.
    any_modality
        Whether the weights were made for another modality.
    """

    output: Path
    weights: str | Path
    input: Path | None = None
    time_index: int | None = None
    device: str = "auto"
    any_modality: bool = False
    channel: int | None = None
    series: str | None = None

    @property
    def choice(self) -> dict[str, Any]:
        """Which part of the input was restored, as keywords of `opening`."""
        chosen = {"time_index": self.time_index, "channel": self.channel, "series": self.series}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job that was started, is not complete and is not running; `done` of its `total` slices are saved."""

    job: BegunJob
    done: int
    total: int


def remember(job: BegunJob) -> None:
    """Add a job to the list, replacing an earlier entry for the same output; OSError if that is not possible."""
    file = _file_of(job.output)
    file.parent.mkdir(parents=True, exist_ok=True)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(job).items()}
    content = {"schema": SCHEMA, **values, "weights_are_a_file": isinstance(job.weights, Path)}
    write_durably(file, json.dumps(content, indent=1).encode() + b"\n")


def forget(output: Path) -> None:
    """Remove a job from the list; its output stays as it is."""
    with contextlib.suppress(OSError):
        _file_of(output).unlink(missing_ok=True)


def unfinished_jobs() -> list[UnfinishedJob]:
    """Return the jobs that can be resumed, most recent first; this reads ledgers.

    Jobs that were completed or deleted elsewhere are removed from the list. One whose parent folder is missing, such as
    on an unplugged disk, stays on it without being returned.
    """
    files = sorted((user_data_folder() / _FOLDER).glob("*.json"), key=_time_of, reverse=True)
    return [state for file in files if (job := _read(file)) and (state := _state(job))]


def _state(job: BegunJob) -> UnfinishedJob | None:
    if not job.output.exists():
        if job.output.parent.exists():
            forget(job.output)
        return None
    try:
        ledger = Ledger(job.output)
        if ledger.is_complete():
            forget(job.output)
            return None
        if at_work(ledger.folder, job.output.name):
            return None
        layout = ledger.layout
        return UnfinishedJob(job, sum(len(layout.slices(slab)) for slab in ledger.done()), layout.shape[layout.axis])
    # What cannot be read cannot be resumed, and has to be fixed where it is, not in this list.
    except (OutputError, OSError):
        return None


def _read(file: Path) -> BegunJob | None:
    try:
        content: dict[str, Any] = json_object(read_regular(file))
        if content["schema"] != SCHEMA:
            return None
        return BegunJob(
            output=Path(content["output"]),
            weights=Path(content["weights"]) if content["weights_are_a_file"] else str(content["weights"]),
            input=None if content["input"] is None else Path(content["input"]),
            time_index=content["time_index"],
            # Entries of version 0.1.0 have neither.
            channel=content.get("channel"),
            series=content.get("series"),
            device=str(content["device"]),
            any_modality=bool(content["any_modality"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file_of(output: Path) -> Path:
    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:32]
    return user_data_folder() / _FOLDER / f"{name}.json"


def _time_of(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
