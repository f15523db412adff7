"""Fine-tuning runs started by a viewer: where their folders are, and which of them were interrupted."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..storage.durable import write_durably
from ..untrusted import json_object, read_regular
from ..user_folder import user_data_folder

if TYPE_CHECKING:
    from pathlib import Path

JOB, OUTCOME, PROCESS = "job.json", "outcome.json", "process.json"
_FOLDER = "trainings"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A fine-tuning run without an outcome.

    Attributes
    ----------
    folder
        What `FineTuneProcess` takes to continue.
    began
        When its folder was filled.
    pid
        ID of the process that last worked on it, which may still be alive; None if there was none.
    """

    folder: Path
    began: datetime
    pid: int | None


def new_training_folder() -> Path:
    """Return the path of a folder for one fine-tuning run; it is not created."""
    return user_data_folder() / _FOLDER / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")


def unfinished_trainings() -> list[Unfinished]:
    """List those that have no outcome, newest first."""
    jobs = sorted((user_data_folder() / _FOLDER).glob(f"*/{JOB}"), reverse=True)
    return [_described(job) for job in jobs if not (job.parent / OUTCOME).exists()]


def note_process(folder: Path, pid: int) -> None:
    """Record which process is working on a fine-tuning run."""
    write_durably(folder / PROCESS, json.dumps({"pid": pid}).encode())


def note_outcome(folder: Path, outcome: dict[str, Any]) -> None:
    """Record the outcome of a fine-tuning run; the copies of its scans and its state are no longer needed."""
    # What is removed next cannot be recovered, so this has to be on disk.
    write_durably(folder / OUTCOME, json.dumps(outcome, indent=2).encode() + b"\n")
    for pattern in ("*.npy", "*.pt"):
        for file in folder.glob(pattern):
            # Windows does not remove files that are still memory-mapped.
            with contextlib.suppress(OSError):
                file.unlink()


def discard(folder: Path) -> None:
    """Remove a fine-tuning run with everything in its folder."""
    shutil.rmtree(folder, ignore_errors=True)


def _described(job: Path) -> Unfinished:
    began = datetime.fromtimestamp(job.stat().st_mtime).astimezone()
    try:
        pid = int(json_object(read_regular(job.parent / PROCESS))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        pid = None
    return Unfinished(job.parent, began, pid)
