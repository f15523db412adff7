"""How quickly the workbench responds: the curtain, the strength, and the numbers of another slice.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/benchmark_compare.py [--json FILE]

Slices of 512 x 512 of the CT sample with a stand-in for the restoration (a mean over 3 x 3 pixels), in a real window
with software rendering. For the curtain, the strength and detail back, each step is mixed, drawn, and waited for; for
the numbers, it is the time from the slider's step to that slice's figures in the table, including the panel's own
delays. On a busy machine the CPU time of the drawing thread says more than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_restore_rwkv.gui.background import Background
from napari_restore_rwkv.gui.compare.compare_panel import ComparePanel
from napari_restore_rwkv.gui.compare.comparison import add_result_layers
from napari_restore_rwkv.gui.compare.measure_tab import MeasureTab
from napari_restore_rwkv.gui.compare.state import RESTORED_ONLY, SWIPE
from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.gui.restore.result import ResultInMemory
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.noise.smoothing import box_mean
from napari_restore_rwkv.scans.samples import sample_path

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS, SLICES = 40, range(4, 10)
PATIENCE_S = 60.0


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    viewer, compare, bench = window()
    load = os.getloadavg()[0]
    compare.choose_mode(SWIPE)
    figures: dict[str, Any] = {"curtain": updates(viewer, lambda part: compare.view.curtain.move_to(part))}
    compare.choose_mode(RESTORED_ONLY)
    figures["strength"] = updates(viewer, lambda part: mix(compare, strength=part))
    figures["detail_back"] = updates(viewer, lambda part: mix(compare, fine=part))
    mix(compare, strength=1.0)
    figures["numbers_after_ms"] = float(np.median([numbers_after_ms(viewer, bench, index) for index in SLICES]))
    figures |= {"load_of_the_machine": load, "cores": os.cpu_count() or 0}
    print(json.dumps(figures, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    # A thread that is still running would find no window to report to.
    wait_for(lambda: not any(one.busy for one in viewer.window._qt_window.findChildren(Background)))
    bench.let_go()
    compare.let_go()
    viewer.close()


def window() -> tuple[napari.Viewer, ComparePanel, MeasureTab]:
    """Open a window with a result of all slices, its panel, and the figures."""
    viewer = napari.Viewer()
    viewer.window.resize(1600, 960)
    scan = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz"), modality="CT")
    data, attributes, _ = scan_to_layer(scan, "CT")
    layer = viewer.add_image(data, **attributes)
    result = ResultInMemory(scan, 0)
    result.prepare()
    for index in range(result.slices):
        result.restored[index] = box_mean(scan.voxels[index], 1)
        result.take(result.region(index))
    comparison = add_result_layers(viewer, layer, result, layer.name)
    compare = ComparePanel(viewer)
    viewer.window.add_dock_widget(compare, name="Compare panel")
    compare.show_comparison(comparison)
    bench = MeasureTab(viewer, compare.reading.watch)
    viewer.window.add_dock_widget(bench, name="Figures")
    viewer.dims.set_current_step(0, SLICES.start - 1)
    wait_for(lambda: bench.measured is not None)
    return viewer, compare, bench


def mix(compare: ComparePanel, strength: float = 1.0, fine: float = 0.0) -> None:
    """Move a slider as a user dragging it does."""
    for slider, share in ((compare.strength, strength), (compare.fine, fine)):
        slider.setSliderDown(True)
        slider.setValue(round(100 * share))
    compare._mix()


def updates(viewer: napari.Viewer, move: Callable[[float], None]) -> dict[str, float]:
    """Return how many steps per second are displayed, and how many would be with an idle CPU."""
    canvas = viewer.window._qt_viewer.canvas.native
    began, worked = time.perf_counter(), time.thread_time()
    for step in range(STEPS):
        move(0.1 + 0.8 * step / STEPS)
        canvas.repaint()
        QApplication.processEvents()
    return {
        "per_s": STEPS / (time.perf_counter() - began),
        "per_s_of_processor_time": STEPS / (time.thread_time() - worked),
    }


def numbers_after_ms(viewer: napari.Viewer, bench: MeasureTab, index: int) -> float:
    """Return the time from a step of the slider to the figures of that slice."""
    measured = bench.measured
    began = time.perf_counter()
    viewer.dims.set_current_step(0, index)
    wait_for(lambda: bench.measured not in (None, measured))
    return 1000 * (time.perf_counter() - began)


def wait_for(done: Callable[[], bool]) -> None:
    """Run the event loop until a condition holds."""
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise SystemExit("The window does not respond.")
        QApplication.processEvents()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
