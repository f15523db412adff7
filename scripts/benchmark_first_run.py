"""Measure the first run: napari's own start, what this plugin adds to it, and the first restored slice.

    xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/benchmark_first_run.py [--repeats 3] [--json FILE]

Every figure is of a fresh process. "With the plugin" is napari with its panel open, until the first slice of the sample
is restored and drawn; "without" is the same napari with an empty window.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PLUGIN, SAMPLE = "napari-restore-rwkv", "ct_abdomen_quarter_dose"
DISCOVERY = """
import time
from npe2 import PluginManager, PluginManifest
manager = PluginManager()
manager.discover()
begun = time.perf_counter()
list(PluginManifest.discover())
whole = time.perf_counter() - begun
begun = time.perf_counter()
PluginManifest.from_distribution("napari-restore-rwkv")
print(whole, time.perf_counter() - begun)
"""
EMPTY = """
import time
begun = time.perf_counter()
import napari
viewer = napari.Viewer()
napari._qt.qt_event_loop.get_qapp().processEvents()
print(time.perf_counter() - begun)
"""
RESTORED = f"""
import time
begun = time.perf_counter()
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
QApplication.processEvents()
window = time.perf_counter()
viewer.open_sample("{PLUGIN}", "{SAMPLE}")
_, panel = viewer.window.add_plugin_dock_widget("{PLUGIN}", "Restore")
panel.restore()
ended = []
panel.job.ended.connect(ended.append)
panel.job.failed.connect(ended.append)
while not ended:
    QApplication.processEvents()
    time.sleep(0.01)
QApplication.processEvents()
assert "restored" in str(ended[0]), ended
print(window - begun, time.perf_counter() - begun)
viewer.close()
"""


def main() -> None:
    """Measure, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    discovery = _seconds(DISCOVERY, arguments.repeats)
    empty = _seconds(EMPTY, arguments.repeats)
    restored = _seconds(RESTORED, arguments.repeats)
    figures = {
        "finding all plugins, s": [run[0] for run in discovery],
        "reading this plugin's manifest, s": [run[1] for run in discovery],
        "napari to an empty window, s": [run[0] for run in empty],
        "napari to its window, with the plugin, s": [run[0] for run in restored],
        "napari to the first restored slice, s": [run[1] for run in restored],
    }
    for what, values in figures.items():
        print(f"{what:<45} {statistics.median(values):8.3f} ({min(values):.3f} to {max(values):.3f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _seconds(code: str, repeats: int) -> list[list[float]]:
    """Run code in fresh processes; the numbers of the last line that each prints."""
    results = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise SystemExit(f"It ended with {done.returncode}: {done.stderr[-2000:]}")
        results.append([float(word) for word in done.stdout.strip().splitlines()[-1].split()])
    return results


if __name__ == "__main__":
    main()
