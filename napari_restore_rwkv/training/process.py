"""Fine-tuning in a separate process: the viewer stays responsive, gets GPU memory back, and survives a crash of it.

Both sides exchange lines of JSON over pipes. The process receives, one per line, ``{"do": "pause"}``, ``"resume"``,
``"stop"`` (keep the best), or ``{"do": "preview", "index": 7}``, and sends

    {"kind": "progress", "step", "total", "scoring", "loss", "learning_rate", "psnr", "ssim", "start_psnr",
     "start_ssim", "best_step", "seconds_left", "warnings"}        unknown figures are null
    {"kind": "preview", "index", "file"}             an .npz file with "degraded" and "restored"
    {"kind": "paused"}, {"kind": "resumed"}
    {"kind": "done", "accepted", "reason", "rows", "table", "picture", "candidate", "bundle"}
    {"kind": "error", "text"}                        one sentence for the user

to which the parent adds ``{"kind": "crashed", "text", "exit_code"}``. If the parent is gone, the process saves its
state and ends; started again in the same folder, it continues.
"""

from __future__ import annotations

import io
import json
import math
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ..errors import RestoreError
from ..isolation import python_command, python_environment
from ..storage.durable import write_durably, writing_errors
from .options import STOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .options import FineTuneStep
    from .outcome import FineTuned

    Say = Callable[[dict[str, Any]], None]

LOG = "training.log"
_PREVIEW, _PICTURE = "preview.npz", "before_after.png"
_GONE = "gone"
_NICENESS = 5


class FineTuneProcess:
    """A fine-tuning in another process, for a folder that `write_job` filled.

    Parameters
    ----------
    folder
        Its job; an interrupted job continues from its saved state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Number of the process; None before its start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, which takes some seconds to send its first record."""
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                python_command("napari_restore_rwkv.training.process", str(self.folder)),
                env=python_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of the process until it ends; blocks while there are none."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        last: dict[str, Any] = {}
        for line in process.stdout:
            last = json.loads(line)
            yield last
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            # Nobody is listening any more.
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if last.get("kind") not in ("done", "error"):
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            text = f"The training process ended unexpectedly ({how}); restart it to continue from its last saved step."
            yield {"kind": "crashed", "text": text, "exit_code": code}

    def pause(self) -> None:
        """Pause after the current step; GPU memory stays allocated."""
        self._tell({"do": "pause"})

    def resume(self) -> None:
        """Continue after a pause."""
        self._tell({"do": "resume"})

    def stop(self) -> None:
        """End the training with the best weights so far; the verdict follows."""
        self._tell({"do": "stop"})

    def preview(self, index: int) -> None:
        """Request slice `index` of the first scan, restored with the current weights."""
        self._tell({"do": "preview", "index": index})

    def leave(self) -> None:
        """Let the process save its state and end; another start continues from there."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process at once; another start continues from its last saved step."""
        if self._process is not None:
            self._process.kill()

    def _tell(self, command: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        # If it has ended, `records` reports that.
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()


def main(folder: Path) -> int:
    """Run the job in a folder, inside the process; return its exit code."""
    # Library output goes to the log: the pipe carries nothing but records.
    words = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)

    def say(record: dict[str, Any]) -> None:
        words.write(json.dumps(record, allow_nan=False) + "\n")
        words.flush()

    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, inbox), daemon=True).start()
    try:
        return _run(folder, inbox, say)
    except RestoreError as error:
        say({"kind": "error", "text": str(error)})
    except BrokenPipeError:
        pass
    return 1


def _run(folder: Path, inbox: queue.SimpleQueue[dict[str, Any]], say: Say) -> int:
    import torch

    from .fine_tune import fine_tune
    from .job import read_job
    from .resume import AGAIN

    job = read_job(folder)
    torch.set_num_threads(job.threads)
    steps = fine_tune(job.weights, job.material, job.options, folder=folder)
    request: int | str | None = None
    try:
        while True:
            step = steps.send(request) if request is not None else next(steps)
            say(_progress(step))
            if step.preview is not None:
                preview = io.BytesIO()
                np.savez(preview, degraded=step.preview.degraded, restored=step.preview.restored)
                with writing_errors(str(folder), AGAIN):
                    write_durably(folder / _PREVIEW, preview.getbuffer())
                say({"kind": "preview", "index": step.preview.index, "file": str(folder / _PREVIEW)})
            request = _next_request(inbox, say)
            if request == _GONE:
                steps.close()
                return 0
    except StopIteration as end:
        say(_done(end.value, folder, job.output))
    return 0


def _listen(source: TextIO, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in source:
        inbox.put(json.loads(line))
    inbox.put({"do": _GONE})


def _next_request(inbox: queue.SimpleQueue[dict[str, Any]], say: Say) -> int | str | None:
    """What to send to the generator; waits while paused, except for a preview, which needs a step."""
    paused = False
    request: int | str | None = None
    while paused or not inbox.empty():
        command = inbox.get()
        match command["do"]:
            case "pause" if not paused:
                paused = True
                say({"kind": "paused"})
            case "resume" if paused:
                paused = False
                say({"kind": "resumed"})
            case "stop":
                return STOP
            case "preview":
                request = int(command["index"])
            case "gone":
                return _GONE
    return request


def _progress(step: FineTuneStep) -> dict[str, Any]:
    start, score = step.start, step.score
    figures = {
        "loss": step.loss,
        "learning_rate": step.learning_rate,
        "psnr": score.psnr if score else None,
        "ssim": score.ssim if score else None,
        "start_psnr": start.psnr if start else None,
        "start_ssim": start.ssim if start else None,
        "seconds_left": step.seconds_left,
    }
    known = {name: value if value is not None and math.isfinite(value) else None for name, value in figures.items()}
    scoring = None
    if step.scoring is not None:
        scoring = {"done": step.scoring.done, "total": step.scoring.total, "weights": step.scoring.weights.value}
    steps = {"step": step.step, "total": step.total, "scoring": scoring, "best_step": step.best_step}
    return {"kind": "progress", **steps, **known, "warnings": list(step.warnings)}


def _done(outcome: FineTuned, folder: Path, output: Path | None) -> dict[str, Any]:
    """Write the results of the training: the picture, the candidate in any case, the bundle if it was accepted."""
    from .acceptance import table
    from .resume import AGAIN

    picture = candidate = None
    if outcome.picture is not None:
        picture = folder / _PICTURE
        with writing_errors(str(folder), AGAIN):
            write_durably(picture, outcome.picture)
    if outcome.new is not None:
        number = len(list(folder.glob("candidate*")))
        candidate = outcome.save(folder / (f"candidate_{number}" if number else "candidate"))
    bundle = outcome.save(output) if outcome.accepted else None
    files = {"picture": picture, "candidate": candidate, "bundle": bundle}
    return {
        "kind": "done",
        "accepted": outcome.accepted,
        "reason": outcome.verdict.reason,
        "rows": [row.as_dict() for row in outcome.rows],
        "table": table(outcome.rows) if outcome.rows else "",
        **{name: None if path is None else str(path) for name, path in files.items()},
    }


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
