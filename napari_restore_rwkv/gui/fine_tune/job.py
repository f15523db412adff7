"""A fine-tuning run in a separate process, reported as signals."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from qtpy.QtCore import QObject, Signal

from ...errors import RestoreError, ScanError
from ...scans.scan import AXES
from ...training.process import FineTuneProcess
from ...training.unfinished import JOB, discard, new_training_folder, note_outcome, note_process, unfinished_trainings
from ..mailbox import Mailbox, collect_all

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari.layers import Layer

    from ...training.options import Mode
    from ...training.unfinished import Unfinished
    from .choice import FineTuneChoice

_ENDS = ("done", "error", "crashed")
_LAYER = "layer.json"
_MODULE = "napari_restore_rwkv.training.process"


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """What a fine-tuning run was started with.

    Attributes
    ----------
    folder, weights, task, mode, steps
        Its folder, the old weights, and what was requested.
    layer, axis
        The layer of the scan, None if it is not open, and the axis across its slices.
    """

    folder: Path
    weights: str
    task: str
    mode: Mode
    steps: int
    layer: Any
    axis: int


class FineTuneJob(QObject):
    """Prepares a fine-tuning run, starts its process, and passes on its messages.

    Signals
    -------
    said(records)
        The records that the process has sent since the last time, without the final one; see `training.process`.
    previewed(index, degraded, restored)
        A slice, as the network sees it and as restored by the current weights; (Y, X) in the unit of the scan.
    ended(record)
        The last record, of kind "done", "error" or "crashed".

    Attributes
    ----------
    folder
        The folder of the run that was started last.
    gone
        Whether the panel or the viewer was closed; no signals are sent any more.
    """

    said = Signal(object)
    previewed = Signal(int, object, object)
    ended = Signal(dict)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folder: Path | None = None
        self._process: FineTuneProcess | None = None
        self._thread: threading.Thread | None = None
        self._mailbox = Mailbox(collect_all)
        self._mailbox.opened.connect(self.said)
        # Earlier records come first.
        self.ended.connect(self._mailbox.read)
        self.gone = False

    @property
    def running(self) -> bool:
        """Whether a fine-tuning run is being prepared or is in progress."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def pid(self) -> int | None:
        """Process ID, once the process is started."""
        return self._process.pid if self._process is not None else None

    def begin(self, choice: FineTuneChoice) -> None:
        """Copy the training data into a new folder, and start the training there."""
        folder = new_training_folder()

        def prepare() -> None:
            from ...training.job import write_job

            # The copies in the folder do not know how the scan was acquired.
            along = replace(choice.options, axis=AXES[choice.axis])
            write_job(folder, choice.weights, choice.material(), along)
            layer = {"name": choice.layer.name, "shape": list(choice.layer.data.shape), "axis": choice.axis}
            (folder / _LAYER).write_text(json.dumps(layer), "utf-8")

        self._start(folder, prepare)

    def resume_folder(self, folder: Path) -> None:
        """Resume an interrupted fine-tuning run."""
        self._start(folder, lambda: None)

    def pause(self) -> None:
        """Pause after the current step."""
        if self._process is not None:
            self._process.pause()

    def resume(self) -> None:
        """Continue after a pause."""
        if self._process is not None:
            self._process.resume()

    def stop(self) -> None:
        """End the training with the best weights so far; the verdict follows."""
        if self._process is not None:
            self._process.stop()

    def preview(self, index: int) -> None:
        """Request a slice restored by the current weights."""
        if self._process is not None:
            self._process.preview(index)

    def leave(self) -> None:
        """Let the process save its state and end, and send no more signals: the panel or the viewer is being closed."""
        self.gone = True
        if self._process is not None:
            self._process.leave()

    def _start(self, folder: Path, prepare: Any) -> None:
        self.folder, self._process = folder, None
        self._thread = threading.Thread(target=self._work, args=(folder, prepare), name="fine-tuning", daemon=True)
        self._thread.start()

    def _work(self, folder: Path, prepare: Any) -> None:
        end: dict[str, Any] = {"kind": "error", "text": "The training reported nothing; start it again."}
        try:
            prepare()
            if not self.gone:
                end = self._listen(folder)
        except (RestoreError, OSError) as error:
            end = {"kind": "error", "text": str(error)}
        except Exception as error:
            end = {"kind": "error", "text": f"The training stopped with an unexpected {type(error).__name__}: {error}"}
        if end["kind"] == "done":
            note_outcome(folder, end)
        elif end["kind"] == "error" and not (folder / "state.pt").exists():
            # Refused before the first training step: there is nothing to resume.
            discard(folder)
        if not self.gone:
            self.ended.emit(end)

    def _listen(self, folder: Path) -> dict[str, Any]:
        process = FineTuneProcess(folder)
        process.start()
        self._process = process
        assert process.pid is not None
        note_process(folder, process.pid)
        if self.gone:
            process.leave()
        last: dict[str, Any] = {}
        for last in process.records():
            if self.gone or last["kind"] in _ENDS:
                continue
            if last["kind"] == "preview":
                with np.load(last["file"]) as images:
                    self.previewed.emit(last["index"], images["degraded"], images["restored"])
            else:
                self._mailbox.put(last)
        return last


def interrupted() -> list[Unfinished]:
    """List fine-tuning runs without an outcome that no process is working on, the newest first."""
    return [one for one in unfinished_trainings() if not _at_work(one.pid)]


def begun_in(folder: Path, layers: Iterable[Layer]) -> Begun:
    """Return what a run in a folder was started with; `ScanError` if that cannot be read.

    The layer is the open one of the same name and shape, if there is one.
    """
    try:
        job = json.loads((folder / JOB).read_text("utf-8"))
        material, options = job["material"][0], job["options"]
        given = {name for name in ("degraded", "target") if material[name] is not None}
        mode: Mode = "paired" if len(given) == 2 else "reference" if "target" in given else "noisy"
        known = json.loads((folder / _LAYER).read_text("utf-8"))
        alike = [one for one in layers if one.name == known["name"] and list(one.data.shape) == known["shape"]]
        layer = alike[0] if alike else None
        return Begun(folder, job["weights"], options["task"], mode, int(options["steps"]), layer, int(known["axis"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ScanError(f"{folder.name} contains no readable fine-tuning run ({error}); discard it.") from error


def _at_work(pid: int | None) -> bool:
    """Whether a process ID belongs to a training process; the system reuses the IDs of ended processes."""
    if pid is None:
        return False
    try:
        return _MODULE in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
