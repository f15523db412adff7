"""The small parts of the Fine-tune panel by themselves."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.gui.background import Background
from napari_restore_rwkv.gui.fine_tune.choice import ranges
from napari_restore_rwkv.gui.fine_tune.curves import Plot, axis_of
from napari_restore_rwkv.gui.fine_tune.slice_preview import OneSlice, SlicePreview
from napari_restore_rwkv.gui.fine_tune.verdict_view import VerdictView

ROW = {"scan": 0, "psnr_before": 30.0, "psnr_after": 31.5, "ssim_before": 0.9, "ssim_after": None}


@pytest.mark.slow
def test_the_panel_is_imported_without_torch():
    code = "import napari_restore_rwkv.gui.fine_tune.panel, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "index",
    [2, (slice(None), 2), (2, slice(1, 3), 1), (slice(0, 4), slice(None), 3), (slice(None), slice(None, None, 2), 0)],
    ids=str,
)
def test_a_volume_of_one_slice_is_read_like_an_array(axis, index, rng):
    image = rng.normal(size=[n for a, n in enumerate((4, 5, 6)) if a != axis]).astype(np.float32)
    full = np.full((4, 5, 6), np.nan, np.float32)
    full[(slice(None),) * axis + (2,)] = image
    volume = OneSlice((4, 5, 6), axis)
    volume.put(2, image)
    assert np.array_equal(volume[index], full[index], equal_nan=True)
    assert np.array_equal(np.asarray(volume), full, equal_nan=True)


def test_a_preview_restores_the_view_unless_it_was_rearranged(viewer):
    scan, other = (viewer.add_image(np.zeros((4, 6, 6)), name=name) for name in ("scan", "other"))
    other.visible = False
    preview = SlicePreview(viewer, "preview")
    preview.show(scan, 0, 1, np.ones((6, 6)))
    assert [layer.name for layer in viewer.layers if layer.visible] == ["scan", "scan [preview]"]
    assert viewer.layers.selection.active is other
    preview.remove()
    assert (scan.visible, other.visible, viewer.canvas.grid.enabled) == (True, False, False)
    preview.show(scan, 0, 1, np.ones((6, 6)))
    other.visible = True
    preview.remove()
    assert other.visible
    assert viewer.canvas.grid.enabled


def test_a_preview_of_a_deleted_scan_is_not_shown(viewer):
    scan = viewer.add_image(np.zeros((4, 6, 6)), name="scan")
    viewer.layers.remove(scan)
    SlicePreview(viewer, "preview").show(scan, 0, 1, np.ones((6, 6)))
    assert len(viewer.layers) == 0


@pytest.mark.parametrize("values", [[], [31.2], [30.01, 30.02], [-3.0, 25.0], [1e-4, 2e-4, 9e-4], [5.0, 5.0]])
def test_an_axis_covers_all_values_and_has_round_ticks(values):
    low, high, ticks = axis_of(values)
    assert all(low < value < high for value in values)
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    step = ticks[1] - ticks[0]
    assert f"{step:.0e}"[0] in "125"


def test_the_plot_draws_its_curve_and_the_dashed_line(qtbot):
    plot = Plot("PSNR (dB)", start_title="old weights", points=True)
    qtbot.addWidget(plot)
    plot.resize(300, 120)
    empty = plot.grab().toImage()
    plot.clear(10)
    plot.start = 30.0
    for step in range(1000):
        plot.add(step / 100, 30.0 + step / 500)
    plot.add(5, None)
    plot.add(5, float("nan"))
    assert len(plot.curve.values) == 1000
    drawn = plot.grab().toImage()
    # In the legend, on top, both are there already.
    assert {"blue", "orange"} <= hues(drawn) - hues(empty)


def hues(picture):
    colours = [picture.pixelColor(x, y) for x in range(300) for y in range(20, 120)]
    blue = any(colour.blue() > colour.red() + 100 for colour in colours)
    orange = any(colour.red() > colour.blue() + 100 for colour in colours)
    return {name for name, there in (("blue", blue), ("orange", orange)) if there}


def test_of_several_requests_the_last_is_answered(qtbot):
    background, answers, free = Background(wait_ms=10), [], threading.Event()
    background.answered.connect(answers.append)
    background.ask(lambda: free.wait(240) and "first")
    qtbot.waitUntil(lambda: background._at_work)
    background.ask(lambda: "second")
    background.ask(lambda: "third")
    free.set()
    qtbot.waitUntil(lambda: not background.busy, timeout=5000)
    assert answers == ["third"]


@pytest.mark.parametrize("error", [ScanError("in words"), RuntimeError("out of memory")])
def test_an_error_in_the_background_is_reported(qtbot, error):
    background, told = Background(), []
    background.failed.connect(told.append)

    def work():
        raise error

    background.ask(work)
    qtbot.waitUntil(lambda: bool(told), timeout=5000)
    assert told == [error]
    assert not background.busy


def test_slice_numbers_are_written_as_ranges():
    assert ranges((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    assert ranges(()) == ""


@pytest.mark.parametrize(("mode", "estimated"), [("paired", False), ("noisy", True)])
def test_figures_without_a_reference_are_called_an_estimate(qtbot, mode, estimated):
    view = VerdictView()
    qtbot.addWidget(view)
    record = {
        "accepted": False,
        "reason": "Kept the old weights: why.",
        "rows": [ROW | {"slice": 7}, ROW | {"slice": 8, "psnr_after": 32.5}],
        "picture": None,
        "candidate": "candidate.restorerwkv",
    }
    view.show_outcome(record, mode)
    assert ("PSNR (dB), estimated" in view.table.text()) == estimated
    assert view.estimate.isHidden() != estimated
    assert view.verdict.text().startswith("<b>Estimate. ") == estimated
    assert view.estimate.text().startswith("Estimated from neighbouring slices, because there is no reference")
    assert "<b>30.00</b>" in view.table.text()
    assert "<b>32.00</b>" in view.table.text(), "the mean"
    assert "<td align=right>-</td>" in view.table.text(), "what is not known"


@pytest.mark.parametrize(("accepted", "saved", "used", "kept"), [(0, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)])
def test_weights_can_be_used_once_they_are_accepted_or_saved(qtbot, accepted, saved, used, kept):
    view = VerdictView()
    qtbot.addWidget(view)
    view.show_choices(accepted=accepted, saved=saved, saving=False, possible=True)
    assert view.use.isHidden() != used
    assert view.keep_anyway.isHidden() != kept
    assert view.note.isHidden() != used
