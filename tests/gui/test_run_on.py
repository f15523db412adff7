"""The Restore panel on the workers of a dask scheduler, which run in threads of the test's own process."""

import numpy as np
import pytest
from distributed import LocalCluster
from file_jobs import chest, chest_layer, shards, undisturbed
from napari.layers import Layer
from qtpy.QtWidgets import QInputDialog

from napari_restore_rwkv.gui import preferences
from napari_restore_rwkv.gui.restore.run_on import ABOUT_SCHEDULERS, ASK, RunOn
from napari_restore_rwkv.gui.restore.steps import SLICES_PER_SLAB_OF_A_WORKER
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import write_scan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp") as it:
        yield it.scheduler_address


@pytest.fixture
def run_on(qtbot):
    widget = RunOn()
    qtbot.addWidget(widget.native)
    return widget


def answer(monkeypatch, address, agreed=True):
    """Have the question for the address answered."""
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (address, agreed))


def choose_to_ask(widget):
    index = widget.devices.findData(ASK)
    widget.devices.setCurrentIndex(index)
    widget.devices.activated.emit(index)


def restore_on_the_cluster(panel, qtbot, address, output, weights_file):
    """Fill in the form, press Restore, and wait for the end; return what the panel says."""
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    panel.form.output.value = output
    panel.form.run_on.value = address
    panel.restore()
    qtbot.waitUntil(lambda: not panel.job.running, timeout=240_000)
    return panel.message.text()


def test_an_address_is_typed_once_tested_and_remembered(run_on, qtbot, monkeypatch, address):
    answer(monkeypatch, f" {address} ")
    choose_to_ask(run_on)
    assert run_on.scheduler == run_on.value == address
    qtbot.waitUntil(lambda: run_on.about.text() == "2 workers with 2 threads", timeout=20_000)
    run_on.value = "auto"
    assert run_on.scheduler is None
    assert run_on.devices.findData(address) >= 0
    run_on.value = address
    assert run_on.about.text() == ABOUT_SCHEDULERS
    run_on.test.click()
    qtbot.waitUntil(lambda: run_on.about.text() == "2 workers with 2 threads", timeout=20_000)


def test_the_address_is_there_in_the_next_session(monkeypatch, qtbot):
    monkeypatch.setattr(preferences, "scheduler", lambda: "tcp://cluster:8786")
    widget = RunOn()
    qtbot.addWidget(widget.native)
    assert widget.devices.itemText(widget.devices.findData("tcp://cluster:8786")) == "cluster cluster:8786"
    assert widget.scheduler is None


def test_an_invalid_address_is_refused_with_a_message(run_on, qtbot, monkeypatch):
    answer(monkeypatch, "host")
    said = []
    run_on.asked.connect(said.append)
    choose_to_ask(run_on)
    assert said == ['"host" is not the address of a scheduler; give one such as tcp://host:8786.']
    assert run_on.value == "auto"
    answer(monkeypatch, "tcp://host:1", agreed=False)
    choose_to_ask(run_on)
    assert run_on.scheduler is None


def test_a_missing_scheduler_is_reported_by_the_connection_test(run_on, qtbot, monkeypatch):
    monkeypatch.setattr("napari_restore_rwkv.jobs.scheduler._PATIENCE", "0.3s")
    run_on.value = "tcp://127.0.0.1:9"
    run_on.test.click()
    qtbot.waitUntil(lambda: "There is no dask scheduler at tcp://127.0.0.1:9" in run_on.about.text(), timeout=20_000)


def test_a_volume_is_restored_on_the_cluster_as_locally(
    viewer, make_file_panel, qtbot, address, tmp_path, weights_file
):
    file = tmp_path / "chest.mha"
    write_scan(chest(), file)
    viewer.add_layer(Layer.create(*chest_layer(path=str(file))))
    panel, output = make_file_panel(viewer), tmp_path / "restored.ome.zarr"
    words = restore_on_the_cluster(panel, qtbot, address, output, weights_file)
    assert "40 slices restored" in words
    assert finish(verify(output)).sound
    expected = undisturbed(tmp_path / "here.ome.zarr", weights_file, per_slab=SLICES_PER_SLAB_OF_A_WORKER)
    assert shards(output) == shards(tmp_path / "here.ome.zarr")
    np.testing.assert_array_equal(np.asarray(panel.job.comparison.restored.data[:]), expected)
    assert sorted(path.name for path in tmp_path.glob("*input*")) == []


def test_a_scan_without_a_file_is_copied_to_where_workers_see_it(
    viewer, make_file_panel, qtbot, address, tmp_path, weights_file
):
    file = tmp_path / "chest.mha"
    write_scan(chest(), file)
    changed = chest()
    changed.voxels[3, 5, 6] += 100
    viewer.add_layer(Layer.create(*chest_layer(changed, path=str(file))))
    panel, output = make_file_panel(viewer), tmp_path / "restored.ome.zarr"
    precious = tmp_path / "restored.ome.zarr.input.mha"
    precious.write_text("somebody's own")
    assert "40 slices restored" in restore_on_the_cluster(panel, qtbot, address, output, weights_file)
    undisturbed(tmp_path / "here.ome.zarr", weights_file, changed, SLICES_PER_SLAB_OF_A_WORKER)
    assert shards(output) == shards(tmp_path / "here.ome.zarr")
    assert precious.read_text() == "somebody's own"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_cluster_proposes_a_file_and_refuses_results_in_memory(viewer, make_file_panel, qtbot, weights_file):
    viewer.add_layer(Layer.create(*chest_layer()))
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    panel.form.run_on.value = "tcp://127.0.0.1:9"
    assert panel.form.output.value is not None
    assert (panel.form.options().scheduler, panel.form.options().device) == ("tcp://127.0.0.1:9", "auto")
    panel.form.region.value = "slice"
    assert (panel.form.options().scheduler, panel.form.options().device) == (None, "auto")
    panel.form.region.value = "volume"
    panel.form.output.value = None
    panel.restore()
    assert "A cluster restores into a file that its workers see" in panel.message.text()
