"""Whole trainings from the panel, in their real process."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import QUICK

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.fine_tune.job import interrupted
from napari_restore_rwkv.gui.layers import layer_to_scan
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import restore_slice
from napari_restore_rwkv.training.bundle import available_bundles

pytestmark = pytest.mark.slow

PREVIEW, BLEND = "low dose [fine-tuning preview]", "low dose [blend preview]"
LONG = replace(QUICK, score_every=20)


@pytest.fixture
def panel(viewer, pair_layers, make_fine_tune_panel):
    return make_fine_tune_panel(viewer, *pair_layers)


@pytest.fixture
def to_the_end(qtbot):
    def wait(panel):
        qtbot.waitUntil(lambda: not panel.job.running and panel.run.start.isEnabled(), timeout=240_000)

    return wait


@pytest.fixture
def until_step(qtbot):
    def wait(panel, step):
        qtbot.waitUntil(lambda: panel.state.record.get("step", 0) >= step, timeout=240_000)

    return wait


def start_long(panel, steps=5000):
    panel.recipe = LONG
    panel.form.steps.value = steps
    panel.start()


def restored(layer, index, weights):
    scan = layer_to_scan(layer)
    return restore_slice(np.asarray(scan.voxels[index]), load_checkpoint(weights), choose_intensity(scan))


def test_a_paired_training_is_accepted_listed_blended_and_used(
    make_napari_viewer, pair_layers, make_fine_tune_panel, weights_file, qtbot, to_the_end, bundles
):
    viewer = make_napari_viewer()
    panel = make_fine_tune_panel(viewer, *pair_layers)
    contributions.restore_selected_layer()
    docks = {dock.name: dock.inner_widget() for dock in viewer.window._wrapped_dock_widgets.values()}
    (restore,) = docks.values()
    viewer.dims.set_current_step(0, 9)
    panel.run.start.click()
    assert not panel.form.isEnabled()
    qtbot.waitUntil(lambda: PREVIEW in viewer.layers, timeout=240_000)
    assert np.isfinite(viewer.layers[PREVIEW].data[9]).all()
    assert viewer.canvas.grid.enabled
    to_the_end(panel)

    assert panel.run.loss.curve.steps == list(range(1, QUICK.steps + 1))
    assert panel.run.psnr.curve.steps == [10, 20, 30]
    assert panel.run.psnr.start is not None
    assert max(panel.run.psnr.curve.values) > panel.run.psnr.start
    assert PREVIEW not in viewer.layers
    assert not viewer.canvas.grid.enabled
    assert "Accepted: the held-out slices gained" in panel.verdict.verdict.text()
    assert "PSNR (dB)<" in panel.verdict.table.text()
    assert panel.verdict.estimate.isHidden()
    assert not panel.verdict.picture.pixmap().isNull()
    assert not panel.verdict.use.isHidden()
    assert panel.verdict.keep_anyway.isHidden()
    (bundle,) = available_bundles(bundles)
    listed = restore.form.weights.combo
    qtbot.waitUntil(lambda: listed.findData(str(bundle.path)) >= 0, timeout=10_000)

    panel.blend.preview.setChecked(True)
    scan = viewer.layers["low dose"]
    for percent, weights in ((100, bundle.path), (0, weights_file)):
        panel.blend.slider.setValue(percent)
        wanted = restored(scan, 9, weights)
        qtbot.waitUntil(
            lambda wanted=wanted: BLEND in viewer.layers and np.array_equal(viewer.layers[BLEND].data[9], wanted),
            timeout=20_000,
        )
    panel.blend.slider.setValue(50)
    panel.blend.save_as(bundles / "halfway")
    qtbot.waitUntil(lambda: panel.message.text().startswith("Saved as"), timeout=20_000)
    states = [load_checkpoint(path, fused=False).state_dict() for path in (weights_file, bundle.path)]
    half = load_checkpoint(bundles / "halfway.restorerwkv", fused=False)
    assert half.card.title == "halfway"
    assert all(
        torch.equal(value, torch.lerp(*(state[name] for state in states), 0.5))
        for name, value in half.state_dict().items()
    )

    panel.verdict.use.click()
    assert restore.form.layer.value is scan
    assert restore.form.weights.entry.weights == bundle.path
    restore.restore()
    qtbot.waitUntil(lambda: not restore.job.running, timeout=30_000)
    assert np.allclose(viewer.layers["low dose [restored]"].data[9], restored(scan, 9, bundle.path), atol=0.01)
    panel.bundles.back_button.click()
    assert restore.form.weights.entry.weights == "ct-denoise"
    assert bundle.path.exists()


def test_pause_resume_and_stop_keep_the_best(panel, qtbot, until_step, to_the_end):
    threads = set()
    panel.job.said.connect(lambda record: threads.add(threading.get_ident()))
    start_long(panel)
    panel.start()
    assert panel.message.text() == "A fine-tuning run is in progress: wait for it, or stop it."
    until_step(panel, 21)
    assert threads == {threading.get_ident()}, "what the process says arrives in the thread of the window"
    panel.run.pause.click()
    qtbot.waitUntil(lambda: panel.run.pause.text() == "Resume", timeout=20_000)
    step = panel.state.record["step"]
    assert panel.run.progress.text() == f"paused at step {step} of 5000"
    qtbot.wait(300)
    assert panel.state.record["step"] == step
    panel.run.pause.click()
    until_step(panel, step + 1)
    assert panel.run.pause.text() == "Pause"
    panel.run.stop.click()
    to_the_end(panel)
    assert panel.state.record["step"] < 5000
    assert panel.verdict.verdict.text()
    assert panel.state.outcome["kind"] == "done"
    assert interrupted() == []
    left = {file.suffix for file in panel.job.folder.iterdir()}
    assert not left & {".npy", ".pt"}, "the copies of the scans are gone"


def test_a_killed_process_leaves_the_viewer_and_can_be_resumed(viewer, panel, qtbot, until_step, to_the_end):
    start_long(panel)
    until_step(panel, 41)
    panel.job._process.kill()
    to_the_end(panel)
    assert panel.message.text().startswith("The training process ended unexpectedly (")
    assert panel.message.text().endswith("restart it to continue from its last saved step.")
    assert not panel.interrupted.isHidden()
    assert panel.interrupted.words.text().startswith("Interrupted: training of ")
    assert panel.form.isEnabled()
    panel.interrupted.go_on.click()
    until_step(panel, 1)
    assert panel.run.loss.curve.steps[0] > 20, "it goes on where it was saved"
    assert panel.interrupted.isHidden()
    assert panel.state.begun.layer is viewer.layers["low dose"]
    panel.run.stop.click()
    to_the_end(panel)
    assert panel.state.outcome["kind"] == "done"


def test_a_training_left_with_the_viewer_is_offered_when_the_panel_is_opened_again(
    viewer, panel, make_fine_tune_panel, qtbot, until_step
):
    start_long(panel)
    until_step(panel, 3)
    assert interrupted() == [], "a process is at work on it"
    panel.shut_down()
    panel.job._thread.join(60)
    assert not panel.job.running
    again = make_fine_tune_panel(viewer)
    assert not again.interrupted.isHidden()
    folder = again.state.interrupted[0].folder
    again.interrupted.discard.click()
    assert again.interrupted.isHidden()
    assert not folder.exists()


def test_weights_that_are_not_better_are_saved_only_by_a_second_button(panel, qtbot, to_the_end, bundles):
    # So small a step changes nothing that could be measured.
    panel.recipe = replace(QUICK, learning_rate=1e-9)
    panel.form.steps.value = 5
    panel.start()
    to_the_end(panel)
    assert "Kept the old weights: " in panel.verdict.verdict.text()
    assert panel.verdict.use.isHidden()
    assert available_bundles(bundles) == []
    panel.verdict.keep_anyway.click()
    qtbot.waitUntil(lambda: not panel.verdict.use.isHidden(), timeout=20_000)
    (saved,) = available_bundles(bundles)
    assert not saved.accepted
    wanted = f"{saved.card.title} (not accepted)"
    qtbot.waitUntil(lambda: panel.form.weights.combo.findText(wanted) >= 0, timeout=10_000)


def test_weights_that_cannot_be_read_end_in_a_sentence_and_leave_nothing_behind(panel, tmp_path, to_the_end):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    panel.form.weights.use_file(tmp_path / "broken.safetensors")
    panel.start()
    to_the_end(panel)
    assert panel.message.text().startswith("broken.safetensors cannot be read as weights")
    assert not panel.job.folder.exists()
    assert panel.interrupted.isHidden()
