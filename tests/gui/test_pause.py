"""Pause keeps everything and stops everything; Resume continues."""

import re

import numpy as np
import pytest
from file_jobs import chest_layer, undisturbed
from napari.layers import Layer
from qtpy.QtCore import QCoreApplication, QEvent, Qt

CT, RESTORED = "CT abdomen", "CT abdomen [restored]"
A_YEAR_S = 365 * 86400


def states(panel):
    return panel.restore_button.isEnabled(), panel.pause_button.isEnabled(), panel.cancel_button.isEnabled()


def start_and_pause(panel, qtbot, restoration):
    """Pause after the first slice, with a restoration that would otherwise run on."""
    restoration.hold.clear()
    panel.form.region.value = "volume"
    panel.restore()
    qtbot.waitUntil(lambda: restoration.order == [2])
    panel.pause_button.click()
    qtbot.waitUntil(lambda: panel.progress.text().startswith("paused"))
    restoration.hold.set()


def test_a_paused_restoration_takes_no_step_until_it_is_resumed(viewer, ct_panel, qtbot, restoration, stand_still):
    assert states(ct_panel) == (True, False, False)
    start_and_pause(ct_panel, qtbot, restoration)
    assert ct_panel.progress.text() == "paused · slice 2 of 5"
    assert ct_panel.pause_button.text() == "Resume"
    assert states(ct_panel) == (False, True, True)
    steps = len(restoration.shown)
    viewer.dims.set_current_step(0, 4)
    stand_still(ct_panel.job._run.worker._going)
    assert (len(restoration.shown), restoration.order) == (steps, [2])
    ct_panel.pause_button.click()
    assert ct_panel.pause_button.text() == "Pause"
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert restoration.order == [2, 4, 0, 1, 3], "the slice that is looked at by then comes next"
    assert np.isfinite(viewer.layers[RESTORED].data).all()
    assert states(ct_panel) == (True, False, False)


def test_the_time_of_a_pause_does_not_count(ct_panel, qtbot, restoration):
    lines = []
    ct_panel.job.progressed.connect(lambda done, total, text: lines.append(text))
    start_and_pause(ct_panel, qtbot, restoration)
    run = ct_panel.job._run
    # As if it had been paused a year ago, right after the first slice.
    run.started -= A_YEAR_S
    run._paused_at -= A_YEAR_S
    run.pace.skip(-A_YEAR_S)
    lines.clear()
    restoration.hold.clear()
    ct_panel.pause()
    restoration.restore_one_more()
    qtbot.waitUntil(lambda: bool(lines))
    assert re.fullmatch(r"slice 3 of 5 · [\d.]+ (s|min) left", lines[0]), "no days"
    restoration.hold.set()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert re.fullmatch(r"5 slices restored in [\d.]+ (s|min)\.", ct_panel.message.text())


def test_a_paused_restoration_can_be_cancelled(ct_panel, qtbot, restoration):
    start_and_pause(ct_panel, qtbot, restoration)
    ct_panel.cancel_button.click()
    assert states(ct_panel) == (False, False, False)
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert ct_panel.message.text() == "1 of 5 slices kept; Restore continues."
    assert ct_panel.pause_button.text() == "Pause"
    assert restoration.closed.is_set()


def test_a_paused_restoration_does_not_delay_closing_the_panel(ct_panel, qtbot, restoration):
    start_and_pause(ct_panel, qtbot, restoration)
    ct_panel.shut_down()
    assert restoration.closed.is_set()


@pytest.mark.slow
def test_a_job_into_a_file_pauses_too(viewer, make_file_panel, weights_file, qtbot, stand_still, tmp_path):
    viewer.add_layer(Layer.create(*chest_layer()))
    panel = make_file_panel(viewer)
    panel.form.weights.use_file(weights_file)
    panel.form.region.value = "volume"
    panel.form.output.value = output = tmp_path / "paused.ome.zarr"
    panel.restore()
    panel.pause()
    assert panel.progress.text() == "pausing ..."
    qtbot.waitUntil(lambda: panel.progress.text().startswith("paused"), timeout=20_000)
    before = {file: file.stat().st_mtime_ns for file in output.rglob("*")}
    stand_still(panel.job._run.worker._going)
    assert {file: file.stat().st_mtime_ns for file in output.rglob("*")} == before
    panel.pause()
    qtbot.waitUntil(lambda: not panel.job.running, timeout=20_000)
    assert np.array_equal(
        viewer.layers["chest [restored]"].data[:], undisturbed(tmp_path / "other.ome.zarr", weights_file)
    )


@pytest.mark.parametrize("button", ["restore_button", "pause_button", "cancel_button"])
def test_the_buttons_are_reached_by_the_keyboard(ct_panel, button):
    assert getattr(ct_panel, button).focusPolicy() & Qt.FocusPolicy.TabFocus


def test_a_timer_that_qt_has_removed_does_not_stop_the_closing(ct_panel, qtbot, restoration):
    """At the end of the program objects of Qt vanish in any order."""
    start_and_pause(ct_panel, qtbot, restoration)
    ct_panel.job._timer.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    with pytest.raises(RuntimeError):
        ct_panel.job._timer.stop()
    ct_panel.job.shut_down()
    assert restoration.closed.is_set()
