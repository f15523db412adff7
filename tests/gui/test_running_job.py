"""A restoration in the panel from Restore to its end: order, progress, cancelling, errors, layers that go meanwhile."""

import re
import threading

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_restore_rwkv.cancellation import end_if_cancelled
from napari_restore_rwkv.gui.restore import job as job_module
from napari_restore_rwkv.gui.restore import steps
from napari_restore_rwkv.gui.restore.result import ResultInMemory

CHANGE = 5.0
CT, RESTORED, DIFFERENCE = "CT abdomen", "CT abdomen [restored]", "CT abdomen [restored - input]"
LONGEST_DRAWING_S = 60


def test_the_displayed_slice_comes_first_and_scrolling_moves_the_next_one_up(viewer, ct_panel, qtbot, restoration):
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    qtbot.waitUntil(lambda: restoration.order == [2])
    viewer.dims.set_current_step(0, 4)
    qtbot.waitUntil(lambda: restoration.shown[-1:] == [4])
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert restoration.order == [2, 4, 0, 1, 3]


def test_progress_says_slice_and_time_left(ct_panel, qtbot, restoration):
    lines = []
    ct_panel.job.progressed.connect(lambda done, total, text: lines.append((done, total, text)))
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    assert ct_panel.cancel_button.isEnabled()
    assert not ct_panel.restore_button.isEnabled()
    qtbot.waitUntil(lambda: bool(lines))
    assert lines == [(1, 5, "slice 2 of 5")], "one slice says nothing of the next: it has the loading in it"
    ct_panel.job._run.pace.skip(-60)
    restoration.restore_one_more()
    qtbot.waitUntil(lambda: len(lines) == 2)
    assert lines[1][:2] == (2, 5)
    assert re.fullmatch(r"slice 3 of 5 · 3\.\d min left", lines[1][2]), "a slice took a minute, and three are left"
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert lines[-1][:2] == (5, 5)
    assert len({done for done, _, _ in lines}) == len(lines), "nothing is said twice"


def test_restore_pressed_twice_starts_once_and_says_so(ct_panel, qtbot, restoration):
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    ct_panel.restore()
    assert ct_panel.message.text() == "A restoration is in progress: wait for it, or press Cancel."
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert len(restoration.asked) == 1


def test_cancel_keeps_finished_slices_and_restore_continues(viewer, ct_panel, qtbot, restoration, run_to_the_end):
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    qtbot.waitUntil(lambda: restoration.order == [2])
    qtbot.waitUntil(lambda: RESTORED in viewer.layers)
    ct_panel.cancel()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert restoration.closed.is_set()
    assert ct_panel.message.text() == "1 of 5 slices kept; Restore continues."
    kept = viewer.layers[RESTORED]
    assert np.isfinite(kept.data[2]).all()
    restoration.hold.set()
    run_to_the_end(ct_panel)
    assert restoration.asked == [[0, 1, 2, 3, 4], [0, 1, 3, 4]]
    assert viewer.layers[RESTORED] is kept
    assert len(viewer.layers) == 3
    assert np.isfinite(kept.data).all()


def test_other_options_start_over_in_new_layers(viewer, ct_panel, run_to_the_end, restoration, tmp_path):
    run_to_the_end(ct_panel, "slice")
    ct_panel.form.weights.use_file(tmp_path / "own.safetensors")
    run_to_the_end(ct_panel, "slice")
    assert restoration.asked == [[2], [2]]
    assert len(viewer.layers) == 5


def test_when_all_is_done_restore_says_so(ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    ct_panel.restore()
    assert ct_panel.message.text().startswith("All 5 slices are already restored with these choices; delete the layer")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory"), "This stopped with an unexpected RuntimeError: CUDA out of memory"),
        (ValueError("odd shape"), "This stopped with an unexpected ValueError: odd shape"),
        (
            OSError(28, "No space left on device", "/far/ct.nii"),
            "ct.nii cannot be read or written (no space left on device): check its name, its permissions and the disk.",
        ),
    ],
)
def test_an_error_in_the_thread_is_shown_and_the_form_stays(ct_panel, run_to_the_end, restoration, error, sentence):
    told = []
    notification_manager.notification_ready.connect(told.append)
    restoration.error = error
    ct_panel.form.region.value = "volume"
    run_to_the_end(ct_panel)
    notification_manager.notification_ready.disconnect(told.append)
    assert ct_panel.message.text() == sentence
    [note] = told
    # Only an unexpected one has details.
    assert note.message == sentence if isinstance(error, OSError) else str(error) in note.message
    assert ct_panel.form.region.value == "volume"
    assert ct_panel.restore_button.isEnabled()
    restoration.error = None
    run_to_the_end(ct_panel)
    assert re.fullmatch(r"5 slices restored in [\d.]+ (s|min)\.", ct_panel.message.text())


@pytest.mark.parametrize("measurements", [1, 3])
def test_a_job_that_is_cancelled_while_the_noise_is_measured_ends_with_that_slice(
    ct_panel, qtbot, monkeypatch, measurements
):
    measuring, cancelled, measured, prepared = threading.Event(), threading.Event(), [], []

    def measure(*_):
        for _ in range(measurements):
            end_if_cancelled()
            measured.append(1.0)
            measuring.set()
            assert cancelled.wait(60)
        return 1.0

    monkeypatch.setattr(steps, "advice_strength", measure)
    monkeypatch.setattr(ResultInMemory, "prepare", lambda result: prepared.append(result))
    qtbot.waitUntil(lambda: ct_panel.form.is_known)
    ct_panel.restore()
    qtbot.waitUntil(measuring.is_set)
    ct_panel.cancel()
    cancelled.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert (len(measured), prepared) == (1, [])
    assert ct_panel.message.text() == "Cancelled; no slice was finished yet."


@pytest.mark.parametrize(("doomed", "what"), [(CT, "scan"), (RESTORED, "restored layer")])
def test_deleting_the_layer_of_a_running_job_ends_it_quietly(viewer, ct_panel, qtbot, restoration, doomed, what):
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    qtbot.waitUntil(lambda: RESTORED in viewer.layers)
    viewer.layers.remove(doomed)
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert ct_panel.message.text() == f"Stopped, because the {what} was deleted."
    assert restoration.closed.is_set()


def test_layers_may_be_deleted_or_renamed_during_a_job(viewer, ct_panel, qtbot, restoration):
    restoration.hold.clear()
    ct_panel.form.region.value = "volume"
    ct_panel.restore()
    qtbot.waitUntil(lambda: DIFFERENCE in viewer.layers)
    viewer.layers.remove(DIFFERENCE)
    viewer.layers[RESTORED].name = "mine"
    viewer.layers["mine"].visible = False
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert np.isfinite(viewer.layers["mine"].data).all()


def test_slices_are_restored_while_their_layers_are_being_drawn(ct_panel, restoration, run_to_the_end, monkeypatch):
    def draw_slowly(*about):
        restored_meanwhile.append(restoration.closed.wait(LONGEST_DRAWING_S))
        return add_result_layers(*about)

    restored_meanwhile, add_result_layers = [], job_module.add_result_layers
    monkeypatch.setattr(job_module, "add_result_layers", draw_slowly)
    run_to_the_end(ct_panel, "volume")
    assert restored_meanwhile == [True]
    assert np.array_equal(ct_panel.job.comparison.restored.data, ct_panel.form.layer.value.data - np.float32(CHANGE))
