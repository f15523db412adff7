"""How long a running restoration blocks the window: event-loop latency with a job, and without one.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/benchmark_gui.py [--json FILE] [--stacks]

A job restores the sample CT from scratch while the slider is stepped; a timer of 1 ms records how late the event loop
returns. Then the same layers, slider steps and refreshes are repeated at the same moments without a job: that is
napari's own drawing. The difference is what the restoration costs the user. "later" is the longest gap once the new
layers have been drawn for the first time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_restore_rwkv.gui.compare.comparison import add_result_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_restore_rwkv.gui.compare.comparison import Comparison
    from napari_restore_rwkv.gui.restore.panel import RestorePanel
    from napari_restore_rwkv.gui.restore.result import RestorationResult

PLUGIN, SAMPLE = "napari-restore-rwkv", "ct_abdomen_quarter_dose"
WINDOW = (1600, 960)
TICK_MS = 1
STEP_SLIDER_EVERY_MS = 2500
SETTLE_MS = 1500
LONG_MS, LOOK_EVERY_S = 60.0, 0.01
FIRST_SLICE = 9
LIMIT_MS = 50.0
ROWS = ("max", "later", "p99", "p95", "median")


@dataclass(slots=True)
class Recording:
    """What happened in one pass: the ticks (seconds, ms since the last), and the events (seconds, kind, value)."""

    ticks: list[tuple[float, float]] = field(default_factory=list)
    events: list[tuple[float, str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def note(self, kind: str, value: Any = None) -> None:
        """Keep an event with the time at which it happened."""
        self.events.append((time.perf_counter() - self.started, kind, value))

    def summary(self) -> dict[str, float]:
        """Return the rows of the table, in ms."""
        at, gaps = np.array(self.ticks).T
        shown = next(seconds for seconds, kind, _ in self.events if kind == "show")
        later = gaps[at > shown + SETTLE_MS / 1000].max()
        return dict(zip(ROWS, map(float, (gaps.max(), later, *np.percentile(gaps, (99, 95, 50)))), strict=True))


class Ticks:
    """Fills a recording with the time from tick to tick, and shows what the GUI thread does when a tick is late."""

    def __init__(self, recording: Recording, stacks: bool) -> None:
        self._recording = recording
        self._last = time.perf_counter()
        self._stop = threading.Event()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)
        if stacks:
            threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True).start()

    def stop(self) -> None:
        """End the recording."""
        self._timer.stop()
        self._stop.set()

    def _tick(self) -> None:
        now = time.perf_counter()
        self._recording.ticks.append((now - self._recording.started, 1000 * (now - self._last)))
        self._last = now

    def _watch(self, gui_thread: int) -> None:
        shown = 0.0
        while not self._stop.wait(LOOK_EVERY_S):
            last = self._last
            late = 1000 * (time.perf_counter() - last)
            if late > LONG_MS and shown != last:
                shown = last
                stack = traceback.format_stack(sys._current_frames()[gui_thread])
                seconds = last - self._recording.started
                print(f"--- at {seconds:.2f} s, late by {late:.0f} ms\n{''.join(stack[-6:])}", file=sys.stderr)


def main() -> int:
    """Run the benchmark; return 0 if a job holds the window at most 50 ms longer than drawing does."""
    arguments = _parse()
    with window() as (viewer, panel):
        # One-time compilation and loading are not part of the comparison.
        record_job(viewer, panel, stacks=False)
    jobs, controls = [], []
    for repeat in range(arguments.repeats):
        with window() as (viewer, panel):
            recording, done = record_job(viewer, panel, arguments.stacks)
            print(f"repeat {repeat + 1}: {panel.message.text()} {count(recording)}", file=sys.stderr)
        with window() as (viewer, panel):
            controls.append(record_control(viewer, panel, recording, done))
        jobs.append(recording)
    return report(jobs, controls, arguments.json)


@contextmanager
def window() -> Iterator[tuple[napari.Viewer, RestorePanel]]:
    """Open a window with the sample and the Restore panel, so that every pass starts from nothing."""
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    viewer.open_sample(PLUGIN, SAMPLE)
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Restore")
    while panel.form.run_on.devices.currentData() == "auto":
        spin(50)
    viewer.dims.set_current_step(0, FIRST_SLICE)
    spin(SETTLE_MS)
    yield viewer, panel
    viewer.close()
    spin(SETTLE_MS)


def record_job(viewer: napari.Viewer, panel: RestorePanel, stacks: bool) -> tuple[Recording, RestorationResult]:
    """Restore the whole volume while the slider moves; return what happened, and the result."""
    panel.form.region.value = "volume"
    spin(SETTLE_MS)
    recording, loop = Recording(), QEventLoop()
    job, refresh = panel.job, panel.job._refresh

    def noted(run: Any, thumbnail: bool = False) -> None:
        recording.note("refresh", (run.result.limit, thumbnail))
        refresh(run, thumbnail)

    def shown(comparison: Comparison) -> None:
        recording.note("show")

    job._refresh = noted
    ends = ((job.shown, shown), (job.ended, loop.quit), (job.failed, loop.quit))
    for signal, slot in ends:
        signal.connect(slot)
    slider = QTimer()
    slider.timeout.connect(lambda: step_slider(viewer, recording))
    slider.start(STEP_SLIDER_EVERY_MS)
    ticks = Ticks(recording, stacks)
    panel.restore()
    loop.exec()
    slider.stop()
    spin(SETTLE_MS)
    ticks.stop()
    job._refresh = refresh
    for signal, slot in ends:
        signal.disconnect(slot)
    assert job.comparison is not None, panel.message.text()
    return recording, job.comparison.result


def record_control(
    viewer: napari.Viewer, panel: RestorePanel, recorded: Recording, result: RestorationResult
) -> Recording:
    """Repeat the recorded events without a job, with its finished result; return what happened."""
    spin(SETTLE_MS)
    layer = viewer.layers[0]
    result.limit = 0.0
    shown: list[Comparison] = []

    def show(_: Any) -> None:
        shown.append(add_result_layers(viewer, layer, result, layer.name))
        panel.compare.show_comparison(shown[0])

    def refresh(value: tuple[float, bool]) -> None:
        result.limit, thumbnail = value
        shown[0].fit_limits()
        for changed in (shown[0].restored, shown[0].difference):
            changed.refresh(thumbnail=thumbnail, extent=False, highlight=False)

    actions: dict[str, Callable[[Any], None]] = {
        "show": show,
        "refresh": refresh,
        "step": lambda index: viewer.dims.set_current_step(0, index),
    }
    recording = Recording()
    ticks = Ticks(recording, stacks=False)
    for seconds, kind, value in recorded.events:
        spin(1000 * (recording.started + seconds - time.perf_counter()))
        recording.note(kind, value)
        actions[kind](value)
    spin(SETTLE_MS)
    ticks.stop()
    return recording


def step_slider(viewer: napari.Viewer, recording: Recording) -> None:
    """Advance by one slice, cyclically."""
    index = (viewer.dims.current_step[0] + 1) % int(viewer.dims.nsteps[0])
    recording.note("step", index)
    viewer.dims.set_current_step(0, index)


def spin(milliseconds: float) -> None:
    """Let the event loop run."""
    if milliseconds > 0:
        loop = QEventLoop()
        QTimer.singleShot(round(milliseconds), Qt.TimerType.PreciseTimer, loop.quit)
        loop.exec()


def count(recording: Recording) -> str:
    """Return how many refreshes and slider steps there were."""
    kinds = [kind for _, kind, _ in recording.events]
    return f"{kinds.count('refresh')} refreshes, {kinds.count('step')} slider steps, {len(recording.ticks)} ticks."


def report(jobs: list[Recording], controls: list[Recording], target: Path | None) -> int:
    """Print medians over the repeats with lowest and highest, write them as JSON, and judge."""
    passes = {
        "with a job": [recording.summary() for recording in jobs],
        "drawing alone": [recording.summary() for recording in controls],
    }
    passes["difference"] = [
        {row: job[row] - control[row] for row in ROWS} for job, control in zip(*passes.values(), strict=True)
    ]
    print(f"ms from tick to tick ({TICK_MS} ms asked), {len(jobs)} repeats, {os.cpu_count()} CPU cores: median (range)")
    print("".join([" " * 8, *(f"{name:>26}" for name in passes)]))
    table: dict[str, dict[str, list[float]]] = {}
    for row in ROWS:
        table[row] = {name: sorted(one[row] for one in found) for name, found in passes.items()}
        cells = (f"{np.median(v):.1f} ({v[0]:.1f} .. {v[-1]:.1f})" for v in table[row].values())
        print(f"{row:8}" + "".join(f"{cell:>26}" for cell in cells))
    worst = max(float(np.median(table[row]["difference"])) for row in ("max", "later"))
    kept = worst <= LIMIT_MS
    print(f"A job holds the window {worst:.0f} ms longer than drawing does; the limit is {LIMIT_MS:.0f} ms.")
    if target is not None:
        target.write_text(json.dumps({"passes": passes, "limit_ms": LIMIT_MS, "kept": kept}, indent=2) + "\n")
    return 0 if kept else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all passes there")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="how often both are measured (3)")
    parser.add_argument("--stacks", action="store_true", help="print what the GUI thread does when a tick is late")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
