"""Work timed in a separate process, so that threads of one kind of work do not disturb another.

The process does the work once for each line that it reads, and writes the cost. Several such processes can take turns,
so that other load on the machine affects all of them equally.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Cost(NamedTuple):
    """The cost of one piece of work: wall time and CPU time in seconds, and peak memory in MiB."""

    passed: float
    spent: float
    peak_mib: float


class Served:
    """A process that works on demand; leaving its context ends the process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None, priority: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=(lambda: os.nice(priority)) if priority else None,
        )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.process.stdin, self.process.stdout):
            assert end is not None
            end.close()
        self.process.wait()

    def work(self, what: str = "") -> Cost:
        """Have the work done once; SystemExit if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(map(str, self.process.args[1:]))} ended early.")  # type: ignore[index,union-attr]
        return Cost(*json.loads(answer))


def serve(work: Callable[[str], object]) -> None:
    """Work once for each line read, and write the cost."""
    for line in sys.stdin:
        before = _fresh_memory_mib()
        passed, spent = time.perf_counter(), time.process_time()
        work(line.strip())
        passed, spent = time.perf_counter() - passed, time.process_time() - spent
        print(json.dumps([passed, spent, max(0.0, _memory_mib("VmHWM") - before)]), flush=True)


def middle(values: Iterable[float]) -> dict[str, float]:
    """Median, least and largest."""
    known = sorted(values)
    return {"median": _short(statistics.median(known)), "least": _short(known[0]), "largest": _short(known[-1])}


def machine() -> dict[str, Any]:
    """What the figures were measured on, as plain values."""
    import torch

    from napari_restore_rwkv.network.bi_wkv import kernel_in_use

    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "kernel": kernel_in_use("cpu").name,
        "torch": torch.__version__,
        "load_average": [round(value, 1) for value in os.getloadavg()],
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _fresh_memory_mib() -> float:
    """Reset Linux's peak counter; return what is in use. Elsewhere the figures stay 0."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")
    return _memory_mib("VmRSS")


def _memory_mib(name: str) -> float:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
