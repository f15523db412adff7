"""Restore a scan in the panel and stand still after some slices, to be killed: killed_panel.py SCAN WEIGHTS OUTPUT."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from file_jobs import Gate
from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt import get_qapp

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.layers import RECORD
from napari_restore_rwkv.gui.restore.panel import RestorePanel


def main(scan, weights, output):
    """Print "waiting" once some slices are done, and wait for the end."""
    torch.set_num_threads(1)
    application, viewer = get_qapp(), ViewerModel()
    gate = Gate(SimpleNamespace(setattr=setattr))
    gate.allowed = 19
    [(data, attributes, kind)] = contributions.read(str(scan))
    attributes["metadata"][RECORD]["path"] = str(scan)
    viewer.add_layer(Layer.create(data, attributes, kind))
    panel = RestorePanel(viewer)
    panel.form.weights.use_file(weights)
    panel.form.region.value = "volume"
    panel.form.output.value = output
    panel.restore()
    said = False
    while True:
        application.processEvents()
        time.sleep(0.01)
        if gate.waiting.is_set() and not said:
            print("waiting", flush=True)
            said = True


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
