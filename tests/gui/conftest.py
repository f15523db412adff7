"""A small scan in a viewer, and a restoration that can be slowed down, watched and broken."""

from __future__ import annotations

import functools
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import napari.settings
import numpy as np
import pytest
import vispy.gloo.program
from file_jobs import Gate
from napari.components import ViewerModel
from napari.layers import Layer
from npe2 import PluginManifest
from phantom import QUICK, clean_scan, noisy_scan
from qtpy.QtCore import QCoreApplication, QEvent, QTimer

from napari_restore_rwkv.errors import CheckpointError
from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.fine_tune import panel as fine_tune_panel
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.gui.restore import steps as steps_module
from napari_restore_rwkv.gui.surroundings import DeviceChoice, ModelEntry, Surroundings
from napari_restore_rwkv.progress import Phase, Progress
from napari_restore_rwkv.scans.scan import Scan

CHANGE = 5.0
TIME_LIMIT_S = 900
PATIENCE_MS = 240_000


def pytest_collection_modifyitems(items):
    """End a hanging test from outside: an exception that is raised where Qt is at work is caught and lost."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TIME_LIMIT_S, method="thread"))


class PlainRestoration:
    """Stands in for network and `restore`: it subtracts `CHANGE` from every voxel, one slice at a time.

    Attributes
    ----------
    asked
        Indices of every call.
    order
        Slices in the order in which they were restored.
    shown
        What was sent: the slices that the person looked at.
    error
        An exception to raise at the second slice.
    hold
        While it is not set, the work stands still before each slice after the first, and still listens to Cancel.
    """

    LISTEN_EVERY_S = 0.02

    def __init__(self):
        self.asked, self.order, self.shown = [], [], []
        self.error = None
        self.modality = "CT"
        self.details = {}
        self.hold = threading.Event()
        self.hold.set()
        self.closed = threading.Event()
        self._single = threading.Event()

    def restore_one_more(self):
        """Let the work do one more slice while it is held."""
        self._single.set()
        self.hold.set()

    def load_network(self, weights, modified):
        return SimpleNamespace(card=SimpleNamespace(modality=self.modality, details=self.details))

    def run(self, result, network, options, indices, first):
        self.asked.append(list(indices))
        scan = result.scan
        if None not in (self.modality, scan.modality) and self.modality != scan.modality and not options.any_modality:
            raise CheckpointError(f"The network was made for {self.modality}, and the scan is {scan.modality}.")
        todo = sorted(indices, key=lambda index: (index != first, index))
        total, done = len(todo), 0
        try:
            while todo:
                while done and not self.hold.wait(self.LISTEN_EVERY_S):
                    self.shown.append((yield Progress(Phase.RESTORING, done, total)))
                if self.error is not None and done:
                    raise self.error
                if self.shown and self.shown[-1] in todo:
                    todo.insert(0, todo.pop(todo.index(self.shown[-1])))
                index = todo.pop(0)
                if self._single.is_set():
                    self._single.clear()
                    self.hold.clear()
                region = tuple(
                    slice(index, index + 1) if a == result.axis else slice(0, n) for a, n in enumerate(scan.shape)
                )
                result.target[region] = np.asarray(scan.voxels[region], np.float32) - CHANGE
                self.order.append(index)
                done += 1
                self.shown.append((yield Progress(Phase.RESTORING, done, total, region)))
            return scan.with_voxels(result.target, metadata={"restoration": {"kernel": "none", "version": "test"}})
        finally:
            self.closed.set()


@pytest.fixture(autouse=True, scope="session")
def manifests_read_once():
    """Read the manifests of the installed plugins once: napari looks for plugins in every test that has a panel."""
    discover, found = PluginManifest.discover, []

    def discover_once(paths=()):
        if paths:
            return discover(paths)
        found[:] = found or discover()
        return iter(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", discover_once)
        yield


@pytest.fixture(autouse=True, scope="session")
def shaders_read_once():
    """Strip the comments of a shader once: vispy does it for every item drawn, in a tenth of the time of a window."""
    cached = SimpleNamespace(**{**vars(re), "sub": functools.cache(re.sub)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vispy.gloo.program, "re", cached)
        yield


@pytest.fixture
def qtbot(qtbot, monkeypatch):
    """Waits long enough on a busy machine, whatever timeout a test gives; it continues as soon as it can."""
    wait = qtbot.waitUntil
    monkeypatch.setattr(qtbot, "waitUntil", lambda done, timeout=0: wait(done, timeout=max(timeout, PATIENCE_MS)))
    return qtbot


@pytest.fixture
def at_rest(qtbot):
    """Wait until nothing is due in a window: the canvas fills its place, and no timer is about to change anything."""

    def wait(viewer):
        window, canvas = viewer.window._qt_window, viewer.window._qt_viewer.canvas.native

        def is_at_rest():
            QCoreApplication.sendPostedEvents()
            due = [timer for timer in window.findChildren(QTimer) if timer.isSingleShot() and timer.isActive()]
            fills = not window.isVisible() or tuple(viewer.canvas.size) == (canvas.height(), canvas.width())
            return fills and not due

        qtbot.waitUntil(is_at_rest)

    return wait


@pytest.fixture
def look(at_rest):
    """Return red, green and blue of what the canvas of a window shows at rest, drawn at once; shape (Y, X, 3)."""

    def look(viewer):
        at_rest(viewer)
        return viewer.screenshot(flash=False)[..., :3].astype(int)

    return look


@pytest.fixture
def stand_still(qtbot):
    """Wait until work that waits for an event has asked for it three more times."""

    def wait(event):
        asked, wait = [], event.wait
        event.wait = lambda timeout: asked.append(timeout) or wait(timeout)
        qtbot.waitUntil(lambda: len(asked) > 2)

    return wait


@pytest.fixture(autouse=True)
def own_data_folder(monkeypatch, tmp_path):
    """Keep the list of begun jobs out of the user's own folder."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    (tmp_path / "user").mkdir()


@pytest.fixture(autouse=True)
def own_settings(own_data_folder, monkeypatch, tmp_path):
    """Napari's settings and the plugin's: fresh ones in the test's own folder, in processes of a test as well."""
    path = tmp_path / "user" / "napari" / "settings.yaml"
    monkeypatch.setenv("NAPARI_CONFIG", str(path))
    # Both remember what they read when they were imported or first asked.
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(path))
    monkeypatch.setattr(napari.settings, "_SETTINGS", None)
    monkeypatch.setattr(napari.settings, "_PLUGIN_SETTINGS", {})
    return napari.settings.get_settings(path)


@pytest.fixture(autouse=True)
def bundles(monkeypatch, tmp_path):
    """The folder of fine-tuned weights: an empty one."""
    monkeypatch.setenv("RESTORE_RWKV_BUNDLES", str(tmp_path / "bundles"))
    return tmp_path / "bundles"


@pytest.fixture
def restoration(monkeypatch):
    """The stand-in, installed in place of network and restore."""
    plain = PlainRestoration()
    monkeypatch.setattr(steps_module, "load_network", plain.load_network)
    monkeypatch.setattr(steps_module, "run_restore", plain.run)
    monkeypatch.setattr(restore_panel, "look_around", surroundings)
    return plain


def surroundings():
    """A machine without a GPU, and weights for CT only."""
    return Surroundings(
        devices=(
            DeviceChoice(
                "cpu", "CPU, compiled kernel", "CPU, 2 threads, compiled CPU kernel (AVX2)", "There is no GPU."
            ),
        ),
        models={"ct-denoise": (ModelEntry("ct-denoise", "light, shipped 2026-12", "trained on three subjects", "CT"),)},
    )


@pytest.fixture
def ct_scan(rng):
    """A CT scan of 5 slices of 24 x 32, 2.0 x 0.98 x 0.97 mm, oblique, int16 HU."""
    turn = np.deg2rad(10)
    direction = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    voxels = rng.integers(-200, 300, (5, 24, 32)).astype(np.int16)
    return Scan(voxels, (2.0, 0.98, 0.97), (-150.0, -120.0, 40.0), direction, "CT", "HU", {"source": "abdomen.nii"})


@pytest.fixture
def ct_layer(ct_scan):
    """The napari layer data tuple of the CT scan."""
    return layers_module.scan_to_layer(ct_scan, "CT abdomen")


@pytest.fixture
def viewer():
    """A viewer without a window."""
    return ViewerModel()


@pytest.fixture
def open_panel(qtbot):
    """Open the panel for a viewer and wait until it knows its machine; it is shut down and deleted at the end."""
    panels = []

    def make(viewer):
        panel = restore_panel.RestorePanel(viewer)
        panels.append(panel)
        qtbot.waitUntil(lambda: panel.form.run_on.value == "cpu")
        return panel

    yield make
    for panel in panels:
        panel.shut_down()
        panel.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.fixture
def make_file_panel(open_panel, monkeypatch):
    """Make the panel with the real network and jobs, on a machine that is known at once."""
    monkeypatch.setattr(restore_panel, "look_around", surroundings)
    return open_panel


@pytest.fixture
def make_panel(open_panel, restoration):
    """Make the panel with a restoration that stands in; what holds it is let go at the end."""
    yield open_panel
    restoration.hold.set()


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


@pytest.fixture
def output(tmp_path):
    """Where the chest is restored to."""
    return tmp_path / "chest restored.ome.zarr"


@pytest.fixture
def ct_panel(viewer, ct_layer, make_panel):
    """The panel with the CT scan open, slice 2 displayed."""
    viewer.add_layer(Layer.create(*ct_layer))
    viewer.dims.set_current_step(0, 2)
    return make_panel(viewer)


@pytest.fixture
def denoise_anyway():
    """Choose CT denoising for a scan without a modality and without HU."""

    def choose(panel):
        panel.form.task.value = "ct-denoise"
        panel.form.any_modality.value = True
        return panel

    return choose


@pytest.fixture
def run_to_the_end(qtbot):
    """Press Restore and wait until the job is over."""

    def run(panel, region=None):
        if region is not None:
            panel.form.region.value = region
        qtbot.waitUntil(lambda: panel.form.is_known, timeout=10_000)
        panel.restore()
        qtbot.waitUntil(lambda: not panel.job.running, timeout=10_000)

    return run


@pytest.fixture
def pair_layers():
    """The napari layer data tuples of a noisy CT scan and its reference, 16 slices of 32 x 32."""
    clean = clean_scan()
    return layers_module.scan_to_layer(noisy_scan(clean), "low dose"), layers_module.scan_to_layer(clean, "full dose")


@pytest.fixture
def make_fine_tune_panel(qtbot, monkeypatch, weights_file):
    """Make the Fine-tune panel with small weights and a quick recipe; it is shut down and deleted at the end."""
    monkeypatch.setattr(restore_panel, "look_around", surroundings)
    monkeypatch.setattr(fine_tune_panel, "look_around", surroundings)
    panels = []

    def make(viewer, *layers):
        for layer in layers:
            viewer.add_layer(Layer.create(*layer))
        panel = fine_tune_panel.FineTunePanel(viewer)
        panels.append(panel)
        panel.recipe = QUICK
        qtbot.waitUntil(lambda: panel.form.device.value == "cpu", timeout=20_000)
        panel.form.weights.use_file(weights_file)
        panel.form.steps.value = QUICK.steps
        qtbot.waitUntil(lambda: not panel._checks.busy, timeout=20_000)
        return panel

    yield make
    for panel in panels:
        panel.shut_down()
        if panel.job._thread is not None:
            panel.job._thread.join(PATIENCE_MS / 1000)
        panel.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
