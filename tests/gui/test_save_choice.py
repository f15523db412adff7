"""Memory or a file: what is proposed, and that nothing is allocated that does not fit."""

from pathlib import Path

import numpy as np
import pytest
from address_space import limited_address_space
from file_jobs import chest, chest_layer
from napari.layers import Layer
from qtpy.QtWidgets import QFileDialog

from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.gui.restore import room
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan

A_UMLAUT = "\N{LATIN SMALL LETTER A WITH DIAERESIS}"
RESTORED, DIFFERENCE = "chest [restored]", "chest [restored - input]"
# 100 GiB of 16-bit voxels.
HUGE = (12_800, 2048, 2048)


def huge_scan():
    """A scan that fails when more than a slice of it is read at once."""

    def read(box):
        shape = [along.stop - along.start for along in box]
        assert np.prod(shape) <= HUGE[1] * HUGE[2], "more than a slice was read"
        return np.full(shape, 40, np.int16)

    return Scan(LazyVoxels(HUGE, np.int16, read), (1.0, 0.5, 0.5), modality="CT", unit="HU")


def listed(save):
    return [save.combo.itemText(row) for row in range(save.combo.count())]


def test_a_scan_of_usual_size_stays_in_memory_unless_a_file_is_chosen(viewer, make_panel, tmp_path):
    (tmp_path / "chest.nii.gz").write_bytes(b"")
    viewer.add_layer(Layer.create(*chest_layer(path=tmp_path / "chest.nii.gz")))
    panel = make_panel(viewer)
    save = panel.form.output
    assert listed(save) == ["memory (save it later)", "chest restored.ome.zarr", "choose a file ..."]
    assert save.value is None
    assert save.about.isHidden()
    assert not save.enabled, "one slice is kept in memory"
    panel.form.region.value = "volume"
    assert save.enabled
    save.combo.setCurrentIndex(1)
    save.combo.activated.emit(1)
    assert panel.form.options().output == tmp_path / "chest restored.ome.zarr", "beside the scan"
    assert save.about.text() == "slices are saved as they are finished, and an interrupted job can be continued"
    panel.form.region.value = "slice"
    assert panel.form.options().output is None


def test_the_proposed_name_is_free(viewer, make_panel, tmp_path):
    (tmp_path / "chest.nii.gz").write_bytes(b"")
    (tmp_path / "chest restored.ome.zarr").mkdir()
    viewer.add_layer(Layer.create(*chest_layer(path=tmp_path / "chest.nii.gz", name="chest: 1/2")))
    assert listed(make_panel(viewer).form.output)[1] == "chest 1 2 restored.ome.zarr"
    viewer.layers[0].name = "chest"
    viewer.layers.clear()
    viewer.add_layer(Layer.create(*chest_layer(path=tmp_path / "chest.nii.gz")))
    assert listed(make_panel(viewer).form.output)[1] == "chest restored 2.ome.zarr"


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("x" * 5000, f"{'x' * 200} restored.ome.zarr"),
        (A_UMLAUT * 150, f"{A_UMLAUT * 100} restored.ome.zarr"),
        ("<b>CT</b>\n/etc", "b CT b etc restored.ome.zarr"),
        ("..", "scan restored.ome.zarr"),
    ],
)
def test_any_name_of_a_layer_gives_the_name_of_a_file(viewer, make_panel, tmp_path, name, proposed):
    (tmp_path / "chest.nii.gz").write_bytes(b"")
    panel = make_panel(viewer)
    viewer.add_layer(Layer.create(*chest_layer(path=tmp_path / "chest.nii.gz", name=name)))
    assert listed(panel.form.output)[1] == proposed


def test_a_chosen_file_gets_the_suffix_and_none_chosen_changes_nothing(viewer, make_panel, tmp_path, monkeypatch):
    viewer.add_layer(Layer.create(*chest_layer()))
    save = make_panel(viewer).form.output
    answers = [str(tmp_path / "mine"), ""]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *words: (answers.pop(0), ""))
    for _ in range(2):
        save.combo.setCurrentIndex(save.combo.count() - 1)
        save.combo.activated.emit(save.combo.count() - 1)
        assert save.value == tmp_path / "mine.ome.zarr"
    assert answers == []


def test_a_dialog_that_is_cancelled_keeps_the_proposed_file(viewer, make_panel, monkeypatch):
    viewer.add_layer(Layer.create(*chest_layer()))
    save = make_panel(viewer).form.output
    save.use_proposed()
    proposed = save.value
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *words: ("", ""))
    save.combo.setCurrentIndex(save.combo.count() - 1)
    save.combo.activated.emit(save.combo.count() - 1)
    assert save.value == proposed is not None


@pytest.mark.parametrize(
    ("free", "reason"),
    [
        (6e9, "the result would take most of the free memory (4.2 GB of 6.0 GB)"),
        (8e8, "the result would take 4.2 GB of memory, and 800 MB are free"),
    ],
)
def test_a_result_that_does_not_fit_goes_to_a_file_and_says_why(viewer, make_panel, monkeypatch, free, reason):
    monkeypatch.setattr(room, "free_memory", lambda: free)
    large = chest().with_voxels(np.broadcast_to(np.int16(40), (500, 1024, 1024)))
    viewer.add_layer(Layer.create(*chest_layer(large)))
    panel = make_panel(viewer)
    save = panel.form.output
    assert save.value == Path.home() / "chest restored.ome.zarr"
    assert save.about.text() == reason
    panel.form.region.value = "volume"
    save.value = None
    assert save.about.text() == f"a file is better: {reason}"
    panel.restore()
    assert panel.message.text() == f"T{reason[1:]}: choose a file under Save to."
    assert not panel.job.running


def test_a_large_scan_that_is_read_slice_by_slice_goes_to_a_file_even_if_it_fits(monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda: 10**15)
    assert room.why_a_file(huge_scan()) == "this scan is read slice by slice, too"
    assert room.why_a_file(chest()) == ""


@pytest.mark.slow
def test_a_slice_of_a_hundred_gigabytes_is_restored_without_allocating_them(viewer, make_panel, run_to_the_end):
    with limited_address_space(1 << 32):
        viewer.add_layer(Layer.create(*scan_to_layer(huge_scan(), "chest")))
        viewer.dims.set_current_step(0, 6400)
        panel = make_panel(viewer)
        assert panel.form.output.value is not None
        assert panel.form.output.about.text().startswith("the result would take 429 GB of memory, and ")
        run_to_the_end(panel, "slice")
        assert panel.message.text().startswith("This slice is restored")
        restored = viewer.layers[RESTORED].data
        assert restored.shape == HUGE
        assert (restored[6400] == 35).all()
        assert (viewer.layers[DIFFERENCE].data[6400] == -5).all()
        assert np.isnan(restored[6401]).all()
        viewer.dims.set_current_step(0, 6401)
        run_to_the_end(panel, "slice")
        assert len(viewer.layers) == 3
        assert (restored[6400:6402, 5, 5] == 35).all()


@pytest.mark.slow
@pytest.mark.parametrize("free", [100_000, 10**15])
def test_a_whole_volume_that_does_not_fit_is_restored_into_the_proposed_file(
    viewer, make_file_panel, weights_file, qtbot, monkeypatch, free
):
    monkeypatch.setattr(room, "free_memory", lambda: free)
    monkeypatch.setattr(room, "LARGE_BYTES", 1000)
    scan = chest()
    lazy = scan.with_voxels(LazyVoxels(scan.shape, np.int16, lambda box: scan.voxels[box]))
    viewer.add_layer(Layer.create(*chest_layer(lazy)))
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    output = panel.form.output.value
    panel.restore()
    qtbot.waitUntil(lambda: not panel.job.running, timeout=20_000)
    assert panel.message.text().endswith("checked and saved in chest restored.ome.zarr.")
    assert (output / "zarr.json").is_file()
