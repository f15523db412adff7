"""Measure a long session: consecutive restorations in one viewer; memory, threads and open files meanwhile.

    xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/benchmark_long_run.py [--restorations 500] [--json FILE]

Each opens a small noisy slice, restores it, shows the comparison, and deletes its layers. The first tenth of them is
left out: caches fill, and the heap settles.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
import psutil
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.scans.scan import Scan

PLUGIN = "napari-restore-rwkv"
SIDE, NOISE_HU = 128, 30.0
MIB = 2**20
TIME_LIMIT_S = 600.0
TELL_EVERY = 10


def main() -> None:
    """Measure, and say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restorations", type=int, default=500, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = run(arguments.restorations)
    settled = rows[max(1, len(rows) // 10) - 1]
    growth = rows[-1]["MiB"] / settled["MiB"] - 1
    for row in (rows[0], settled, rows[-1]):
        print(" · ".join(f"{name} {value:g}" for name, value in row.items()))
    print(f"memory grew by {100 * growth:.1f} % after restoration {settled['restoration']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def run(restorations: int) -> list[dict[str, Any]]:
    """Restore repeatedly; yield what the process holds after each."""
    viewer = napari.Viewer()
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Restore")
    ended: list[Any] = []
    panel.job.ended.connect(ended.append)
    panel.job.failed.connect(ended.append)
    process, rows = psutil.Process(), []
    for number in range(1, restorations + 1):
        viewer.add_layer(napari.layers.Layer.create(*_slice(number)))
        ended.clear()
        panel.restore()
        _wait_for(ended)
        viewer.layers.clear()
        _settle()
        rows.append(
            {
                "restoration": number,
                "MiB": round(process.memory_info().rss / MIB, 1),
                "threads": process.num_threads(),
                "handles": process.num_fds() if hasattr(process, "num_fds") else process.num_handles(),
            }
        )
        if number % TELL_EVERY == 0:
            print(rows[-1], flush=True)
    viewer.close()
    return rows


def _settle() -> None:
    """Do what is pending; widgets that are to be deleted later are left alone by `processEvents` alone."""
    QApplication.processEvents()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()


def _slice(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = np.where(np.hypot(y, x) < 0.4 * SIDE, 40.0, -1000.0)
    voxels = (body + NOISE_HU * rng.standard_normal(body.shape))[None].astype(np.float32)
    return scan_to_layer(Scan(voxels, (2.0, 0.9, 0.9), modality="CT", unit="HU"), f"slice {seed}")


def _wait_for(ended: list[Any]) -> None:
    until = time.monotonic() + TIME_LIMIT_S
    while not ended:
        QApplication.processEvents()
        time.sleep(0.005)
        if time.monotonic() > until:
            raise SystemExit(f"A restoration took more than {TIME_LIMIT_S:g} s.")
    if isinstance(ended[0], Exception):
        raise SystemExit(f"A restoration failed: {ended[0]}")


if __name__ == "__main__":
    main()
