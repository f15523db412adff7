"""A script that opens a panel in a viewer without an event loop, and ends."""

import subprocess
import sys

import pytest

SLOW_START = 200  # seconds; napari and torch take a while on a busy machine

SCRIPT = """
import napari
from napari_restore_rwkv.gui.docking import open_panel
from napari_restore_rwkv.gui.restore.panel import RestorePanel

viewer = napari.Viewer(show=False)
open_panel(viewer, RestorePanel, "Restore")
print("the end")
"""


@pytest.mark.slow
def test_a_script_may_end_while_the_panel_looks_at_devices_and_weights(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=SLOW_START, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
