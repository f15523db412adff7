"""A whole volume restored into a file while it is displayed."""

import re

import numpy as np
import pytest
from file_jobs import EVERYTHING, SLICES, chest, chest_layer, shards, undisturbed
from napari.layers import Layer

from napari_restore_rwkv.gui.layers import RECORD, layer_to_scan
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import read_scan

pytestmark = pytest.mark.slow

CT, RESTORED, DIFFERENCE = "chest", "chest [restored]", "chest [restored - input]"


@pytest.fixture
def panel(viewer, make_file_panel, weights_file):
    """The panel with the chest open, slice 20 displayed, and the tiny network chosen."""
    viewer.add_layer(Layer.create(*chest_layer()))
    viewer.dims.set_current_step(0, 20)
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    return panel


def start(panel, output, region="volume"):
    panel.form.region.value = region
    panel.form.output.value = output
    panel.restore()


def wait_until_over(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.job.running, timeout=20_000)


def cancel_after(slices, viewer, panel, output, qtbot, gate):
    """Start the volume, and cancel it when some slices are restored and the result is shown."""
    gate.allowed = slices
    start(panel, output)
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: RESTORED in viewer.layers)
    panel.cancel()
    wait_until_over(qtbot, panel)


def test_a_volume_is_restored_into_a_file_as_without_the_viewer(viewer, panel, output, qtbot, weights_file, tmp_path):
    start(panel, output)
    wait_until_over(qtbot, panel)
    assert re.fullmatch(
        r"40 slices restored in [\d.]+ (s|min), checked and saved in chest restored.ome.zarr\.", panel.message.text()
    )
    expected = undisturbed(tmp_path / "other.ome.zarr", weights_file)
    assert np.abs(expected - chest().voxels.astype(int)).max() > 1, "the network changes something"
    assert np.array_equal(viewer.layers[RESTORED].data[:], expected)
    assert np.array_equal(viewer.layers[DIFFERENCE].data[:], expected - chest().voxels.astype(np.float32))
    assert shards(output) == shards(tmp_path / "other.ome.zarr")
    assert finish(verify(output)).sound
    how = layer_to_scan(viewer.layers[RESTORED]).metadata["restoration"]
    assert (how["weights"], how["slices"], how["strength"]) == ("tiny", SLICES, 1.0)


def test_the_growing_result_shows_what_is_done_and_nothing_elsewhere(
    viewer, panel, output, qtbot, gate, weights_file, tmp_path
):
    expected = undisturbed(tmp_path / "other.ome.zarr", weights_file)
    gate.allowed = 19
    start(panel, output)
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: RESTORED in viewer.layers)
    done = set(gate.order)
    assert gate.order[0] == 20, "the slice on screen comes first"
    assert len(list((output / "0" / "c").iterdir())) == len(done) // 4 == 4, "some of them are saved, some not yet"
    restored, difference = viewer.layers[RESTORED].data, viewer.layers[DIFFERENCE].data
    for index in range(SLICES):
        if index in done:
            assert np.array_equal(restored[index], expected[index])
            assert np.array_equal(difference[index], expected[index] - chest().voxels[index].astype(np.float32))
        else:
            assert np.isnan(restored[index]).all()
            assert np.isnan(difference[index]).all()
    block = restored[10:30, 3:9, ::2]
    assert np.array_equal(np.isfinite(block).all((1, 2)), [index in done for index in range(10, 30)])
    assert np.array_equal(block[10], expected[20, 3:9, ::2])
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)


def wait_until_reported(qtbot, panel, slices):
    """Wait until the panel has heard of so many slices."""
    qtbot.waitUntil(lambda: panel.job._run.reported is not None and panel.job._run.reported[0] == slices)


def watch_drawing(panel, monkeypatch, now):
    """Note each refresh, with a clock that stands still unless it is set."""
    drawn, refresh = [], panel.job._refresh
    monkeypatch.setattr(panel.job, "clock", lambda: now[0])
    monkeypatch.setattr(panel.job, "_refresh", lambda run, **more: (drawn.append(now[0]), refresh(run, **more)))
    return drawn


def test_what_is_on_screen_is_drawn_at_most_four_times_a_second(viewer, panel, output, qtbot, gate, monkeypatch):
    now = [1000.0]
    drawn = watch_drawing(panel, monkeypatch, now)
    # A plane across all slices: each that comes changes it.
    viewer.dims.order = (1, 0, 2)
    gate.allowed = 20
    start(panel, output)
    wait_until_reported(qtbot, panel, 20)
    assert drawn == [1000.0], "twenty slices came, and the clock stood still"
    now[0] += 0.24
    panel.job._refresh_if_due()
    assert len(drawn) == 1
    now[0] += 0.02
    panel.job._refresh_if_due()
    assert len(drawn) == 2
    now[0] += 10
    panel.job._refresh_if_due()
    assert len(drawn) == 2, "nothing has come since"
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)


def test_what_is_not_on_screen_is_not_drawn(viewer, panel, output, qtbot, gate, monkeypatch):
    now = [1000.0]
    drawn = watch_drawing(panel, monkeypatch, now)
    gate.allowed = 5
    start(panel, output)
    wait_until_reported(qtbot, panel, 5)
    viewer.dims.set_current_step(0, 0)
    before = len(drawn)
    now[0] += 10
    panel.job._run.worker.displayed = 20
    gate.allowed = 6
    wait_until_reported(qtbot, panel, 6)
    panel.job._refresh_if_due()
    assert gate.order[-1] != 0
    assert len(drawn) == before
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)


def test_scrolling_moves_the_slice_on_screen_up(viewer, panel, output, qtbot, gate):
    gate.allowed = 3
    start(panel, output)
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    viewer.dims.set_current_step(0, 37)
    qtbot.waitUntil(lambda: panel.job._run.worker.displayed == 37)
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)
    assert gate.order[:3] == [20, 21, 22]
    assert gate.order[3] == 37


def test_cancel_keeps_what_is_saved_and_restore_continues(viewer, panel, output, qtbot, gate, weights_file, tmp_path):
    expected = undisturbed(tmp_path / "other.ome.zarr", weights_file)
    cancel_after(19, viewer, panel, output, qtbot, gate)
    assert panel.message.text() == "16 of 40 slices are saved in chest restored.ome.zarr; Restore continues."
    layer = viewer.layers[RESTORED]
    seen = set(gate.order)
    assert np.array_equal(np.isfinite(layer.data[:]).all((1, 2)), [index in seen for index in range(SLICES)])
    gate.allowed, gate.order = EVERYTHING, []
    panel.restore()
    wait_until_over(qtbot, panel)
    assert len(gate.order) == SLICES - 16, "what was saved is not restored again"
    assert viewer.layers[RESTORED] is layer
    assert len(viewer.layers) == 3
    assert np.array_equal(layer.data[:], expected)
    assert shards(output) == shards(tmp_path / "other.ome.zarr")


def test_a_slice_looked_at_first_stays_on_screen_in_the_same_layers(viewer, panel, output, qtbot, gate):
    start(panel, output, "slice")
    wait_until_over(qtbot, panel)
    assert not output.exists(), "a single slice is kept in memory"
    layer, before = viewer.layers[RESTORED], np.array(viewer.layers[RESTORED].data[20])
    gate.allowed = 0
    start(panel, output)
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    qtbot.waitUntil(output.exists)
    qtbot.waitUntil(lambda: not isinstance(layer.data, np.ndarray))
    assert np.array_equal(layer.data[20], before)
    assert np.isnan(layer.data[19]).all()
    assert len(viewer.layers) == 3
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)
    assert viewer.layers[RESTORED] is layer
    assert np.isfinite(layer.data[:]).all()


def test_this_slice_can_be_restored_within_a_cancelled_job(viewer, panel, output, qtbot, gate):
    cancel_after(3, viewer, panel, output, qtbot, gate)
    viewer.dims.set_current_step(0, 2)
    start(panel, output, "slice")
    wait_until_over(qtbot, panel)
    assert panel.message.text().startswith("This slice is restored")
    assert np.isfinite(viewer.layers[RESTORED].data[2]).all()
    gate.allowed = EVERYTHING
    start(panel, output)
    wait_until_over(qtbot, panel)
    assert len(viewer.layers) == 3
    assert finish(verify(output)).sound


def test_when_all_is_saved_restore_says_so_and_proposes_another_file(panel, output, qtbot):
    start(panel, output)
    wait_until_over(qtbot, panel)
    assert panel.form.output.value not in (None, output)
    panel.restore()
    assert panel.message.text().startswith("All 40 slices are already restored with these choices")


@pytest.mark.parametrize(("strength", "share"), [(100, 1.0), (40, 0.4)])
def test_a_result_in_a_file_is_mixed_and_exported_like_any_other(
    viewer, panel, output, qtbot, tmp_path, strength, share
):
    start(panel, output)
    wait_until_over(qtbot, panel)
    layer = viewer.layers[RESTORED]
    restored = np.array(layer.data[:])
    panel.compare.strength.setValue(strength)
    panel.compare._mix()
    mixed = chest().voxels + share * (restored - chest().voxels)
    assert np.allclose(layer.data[7], mixed[7], atol=1e-3)
    target = tmp_path / "chest.mha"
    panel.compare.save_to(target)
    qtbot.waitUntil(lambda: panel.message.text() == f"Saved as {target}", timeout=10_000)
    exported = read_scan(target)
    assert exported.voxels.dtype == np.int16
    assert np.array_equal(exported.voxels, np.rint(np.asarray(mixed, np.float32)))
    assert layer.metadata[RECORD]["metadata"]["restoration"]["strength"] == share


def test_an_unfinished_result_is_not_saved_elsewhere(viewer, panel, output, qtbot, gate):
    cancel_after(19, viewer, panel, output, qtbot, gate)
    panel.compare.save()
    assert panel.message.text() == "16 of 40 slices are restored: press Restore to finish before saving."


def test_a_damaged_file_is_shown_as_not_done_and_restored_again(viewer, panel, output, qtbot, gate):
    cancel_after(19, viewer, panel, output, qtbot, gate)
    shard = next(file for file in (output / "0").glob("c/**/*") if file.is_file())
    shard.write_bytes(shard.read_bytes()[:-40] + bytes(40))
    gate.allowed = EVERYTHING
    panel.restore()
    wait_until_over(qtbot, panel)
    assert panel.message.text().endswith("checked and saved in chest restored.ome.zarr.")
    assert np.isfinite(viewer.layers[RESTORED].data[:]).all()
    assert finish(verify(output)).sound


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("foreign", "foreign.ome.zarr already exists and was not written by this program: give another name."),
        ("file", "file.ome.zarr is a file: give the name of a folder that does not exist yet."),
        ("missing", "does not exist: create it first, or choose another."),
        ("other", "other.ome.zarr was started as a different job ("),
    ],
)
def test_an_unsuitable_path_is_refused_in_a_sentence_and_left_alone(
    viewer, panel, qtbot, tmp_path, place, words, weights_file
):
    output = tmp_path / f"{place}.ome.zarr"
    if place == "foreign":
        output.mkdir()
        (output / "diary.txt").write_text("mine")
    elif place == "file":
        output.write_text("mine")
    elif place == "missing":
        output = tmp_path / "nowhere" / "x.ome.zarr"
    else:
        undisturbed(output, weights_file, chest(8))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    start(panel, output)
    wait_until_over(qtbot, panel)
    assert words in panel.message.text()
    assert "--" not in panel.message.text()
    assert [layer.name for layer in viewer.layers] == [CT]
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file in before} == before


def test_a_folder_without_write_permission_is_refused_with_a_remedy(viewer, panel, output, qtbot, monkeypatch):
    def refused(*words, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("napari_restore_rwkv.jobs.ledger.create_image", refused)
    start(panel, output)
    wait_until_over(qtbot, panel)
    assert panel.message.text() == (
        "chest restored.ome.zarr cannot be written (permission denied): choose another folder or name."
    )
    assert not output.exists()


def test_a_refused_file_leaves_the_slices_that_were_shown(viewer, panel, qtbot, tmp_path, gate):
    start(panel, tmp_path / "fine.ome.zarr", "slice")
    wait_until_over(qtbot, panel)
    (tmp_path / "file.ome.zarr").write_text("mine")
    start(panel, tmp_path / "file.ome.zarr")
    wait_until_over(qtbot, panel)
    assert "is a file" in panel.message.text()
    assert np.isfinite(viewer.layers[RESTORED].data[20]).all()
    start(panel, tmp_path / "fine.ome.zarr")
    wait_until_over(qtbot, panel)
    assert len(viewer.layers) == 3
    assert np.isfinite(viewer.layers[RESTORED].data[:]).all()


def test_the_difference_of_a_resumed_job_has_its_limits_from_the_start(viewer, panel, output, qtbot, gate):
    cancel_after(19, viewer, panel, output, qtbot, gate)
    for name in (RESTORED, DIFFERENCE):
        viewer.layers.remove(name)
    gate.allowed = 0
    gate.waiting.clear()
    panel.restore()
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: DIFFERENCE in viewer.layers)
    low, high = viewer.layers[DIFFERENCE].contrast_limits
    largest = np.nanmax(np.abs(viewer.layers[DIFFERENCE].data[:]))
    assert 0.5 * largest < high == -low <= largest
    gate.allowed = EVERYTHING
    wait_until_over(qtbot, panel)
