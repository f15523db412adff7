"""The Restore panel as the user sees it, from the first click to the last."""

import re

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QCoreApplication, Qt

from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.gui.options import RestoreOptions
from napari_restore_rwkv.gui.surroundings import ModelEntry
from napari_restore_rwkv.scans.scan import Scan

CHANGE = 5.0
CT, RESTORED, DIFFERENCE = "CT abdomen", "CT abdomen [restored]", "CT abdomen [restored - input]"


def test_with_one_scan_open_everything_is_chosen(ct_panel):
    form = ct_panel.form
    assert form.layer.current_choice == CT
    assert form.about_scan.text() == "5 x 24 x 32 · 2.0 x 0.98 x 0.97 mm · HU"
    assert form.task.current_choice == "CT denoising"
    assert form.weights.combo.currentText() == "light, shipped 2026-12"
    assert form.region.value == "slice"
    assert form.run_on.devices.currentText() == "CPU, compiled kernel"
    assert form.run_on.devices.toolTip() == "CPU, 2 threads, compiled CPU kernel (AVX2)"
    assert form.run_on.why.toolTip() == "There is no GPU."
    assert ct_panel.restore_button.isEnabled()
    assert ct_panel.restore_button.isDefault()
    assert not ct_panel.cancel_button.isEnabled()


def test_the_task_says_why_it_was_chosen(viewer, ct_scan, make_panel):
    viewer.add_layer(Layer.create(*scan_to_layer(with_reason(ct_scan, "the file says modality CT"), CT)))
    assert make_panel(viewer).form.about_task.text() == "chosen because the file says modality CT"


def test_tasks_without_weights_say_so(ct_panel):
    form = ct_panel.form
    titles = [form.task.native.itemText(row) for row in range(len(form.task))]
    assert titles[:2] == ["CT denoising", "MRI super-resolution (no weights yet)"]
    form.task.value = "mri-sr"
    assert [form.weights.combo.itemText(row) for row in range(form.weights.combo.count())] == [
        "no weights yet: choose a file",
        "choose a file ...",
    ]
    ct_panel.restore()
    assert (
        ct_panel.message.text()
        == "There are no weights for MRI super-resolution yet: choose a weights file under Model."
    )


def test_without_a_scan_the_panel_says_what_to_do(viewer, make_panel):
    panel = make_panel(viewer)
    panel.restore()
    assert panel.message.text().startswith("Open a scan first: File > Open")


def test_the_list_of_scans_follows_the_viewer_and_leaves_out_labels_and_results(viewer, ct_panel, run_to_the_end):
    viewer.add_layer(Labels(np.zeros((5, 24, 32), int), name="liver"))
    run_to_the_end(ct_panel)
    viewer.add_layer(Image(np.zeros((4, 6, 6)), name="second"))
    names = [layer.name for layer in ct_panel.form.layer.choices]
    assert names == [CT, "second"]
    assert ct_panel.form.layer.value.name == "second", "what was just opened is chosen"
    viewer.layers["second"].name = "renamed"
    assert ct_panel.form.layer.current_choice == "renamed"
    viewer.layers.remove("renamed")
    assert ct_panel.form.layer.value.name == CT


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: Labels(np.zeros((4, 8), int), name="liver"), '"liver" is a labels layer'),
        (lambda: Image(np.zeros((4, 8, 3), np.uint8), rgb=True, name="photo"), '"photo" is a colour image (RGB)'),
        (lambda: Image(np.zeros((4, 8), bool), name="body"), '"body" is a boolean mask'),
    ],
    ids=["labels", "rgb", "bool"],
)
def test_a_layer_that_is_not_a_scan_is_refused_in_the_panel(viewer, make_panel, layer, words):
    bad = viewer.add_layer(layer())
    panel = make_panel(viewer)
    panel.choose_layer(bad)
    if panel.form.layer.value is bad:
        panel.restore()
    assert panel.message.text().startswith(words)
    assert not panel.job.running


def test_this_slice_is_restored_alone_and_the_whole_volume_offered_next(viewer, ct_panel, run_to_the_end, restoration):
    run_to_the_end(ct_panel)
    assert restoration.asked == [[2]]
    shown = viewer.layers[RESTORED].data
    assert np.array_equal(shown[2], viewer.layers[CT].data[2] - np.float32(CHANGE))
    assert np.isnan(shown[[0, 1, 3, 4]]).all()
    assert re.fullmatch(r"This slice is restored \([\d.]+ (s|min)\)\.", ct_panel.message.text())
    assert ct_panel.restore_button.text() == "Restore whole volume"
    run_to_the_end(ct_panel)
    assert restoration.asked[1] == [0, 1, 3, 4]
    assert np.isfinite(viewer.layers[RESTORED].data).all()
    assert re.fullmatch(r"5 slices restored in [\d.]+ (s|min)\.", ct_panel.message.text())
    assert ct_panel.restore_button.text() == "Restore"


def assert_refused_unless_restored_anyway(panel, refusal, restoration, run_to_the_end):
    assert panel.form.about_task.text().startswith(refusal)
    assert not panel.form.any_modality.native.isHidden()
    panel.restore()
    assert panel.message.text() == "", "it stands in the form already"
    assert restoration.asked == []
    panel.form.any_modality.value = True
    run_to_the_end(panel)
    assert len(restoration.asked) == 1


def test_an_mr_scan_with_ct_weights_is_refused_and_allowed_on_request(viewer, make_panel, run_to_the_end, restoration):
    mr = Scan(np.ones((3, 8, 8), np.float32), (3, 1, 1), modality="MR")
    viewer.add_layer(Layer.create(*scan_to_layer(mr, "head")))
    panel = make_panel(viewer)
    assert panel.form.task.value == "mri-sr"
    assert panel.form.any_modality.native.isHidden()
    panel.form.task.value = "ct-denoise"
    refusal = "CT denoising was made for CT, and this is a scan of modality MR"
    assert_refused_unless_restored_anyway(panel, refusal, restoration, run_to_the_end)
    assert re.fullmatch(r"This slice is restored \([\d.]+ (s|min)\)\.", panel.message.text())


def test_values_that_cannot_be_hu_are_not_assumed_to_be_ct(viewer, make_panel, run_to_the_end, restoration):
    viewer.add_image(np.full((4, 8, 8), 300, np.int16), name="unknown", contrast_limits=(0, 1))
    panel = make_panel(viewer)
    assert panel.form.task.value == "mri-sr"
    assert panel.form.about_task.text() == (
        "the values are not in HU, and the file does not say its modality: please check the task"
    )
    panel.form.task.value = "ct-denoise"
    refusal = "CT denoising was made for CT, and the values of this scan are not in HU: choose another task"
    assert_refused_unless_restored_anyway(panel, refusal, restoration, run_to_the_end)


def test_values_that_can_be_hu_are_proposed_for_ct(viewer, make_panel):
    voxels = np.zeros((4, 8, 8), np.int16)
    voxels[3] = -900
    viewer.add_image(voxels, name="unknown", contrast_limits=(0, 1))
    form = make_panel(viewer).form
    assert form.task.value == "ct-denoise"
    assert form.about_task.text().startswith("the values look like HU, and the file does not say its modality")
    assert form.any_modality.native.isHidden()


def test_a_weights_file_for_another_modality_is_refused_when_it_is_read(viewer, make_panel, run_to_the_end, tmp_path):
    mr = Scan(np.ones((3, 8, 8), np.float32), (3, 1, 1), modality="MR")
    viewer.add_layer(Layer.create(*scan_to_layer(mr, "head")))
    panel = make_panel(viewer)
    panel.form.weights.use_file(tmp_path / "ct.safetensors")
    run_to_the_end(panel)
    assert panel.message.text() == "The network was made for CT, and the scan is MR."
    assert len(viewer.layers) == 1, "nothing is left behind"
    assert not panel.form.any_modality.native.isHidden()
    panel.form.any_modality.value = True
    run_to_the_end(panel)
    assert re.fullmatch(r"This slice is restored \([\d.]+ (s|min)\)\.", panel.message.text())


def test_messages_about_a_result_go_when_another_scan_is_chosen(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel)
    said = ct_panel.message.text()
    ct_panel.form.region.value = "volume"
    assert ct_panel.message.text() == said, "the same scan"
    ct_panel.form.task.value = "mri-sr"
    assert ct_panel.message.text() == "", "another task"
    ct_panel.form.task.value = "ct-denoise"
    run_to_the_end(ct_panel)
    ct_panel.choose_layer(viewer.add_image(np.zeros((3, 8, 8), np.float32), name="another"))
    assert ct_panel.message.text() == ""


@pytest.mark.parametrize(
    "voxels",
    [np.arange(15, dtype=np.float32).reshape(1, 3, 5), np.full((3, 8, 8), 40.0, np.float32)],
    ids=["3x5", "constant"],
)
def test_tiny_and_constant_scans_are_restored(viewer, make_panel, denoise_anyway, run_to_the_end, voxels):
    viewer.add_image(voxels[0] if len(voxels) == 1 else voxels, name="small")
    panel = denoise_anyway(make_panel(viewer))
    run_to_the_end(panel)
    restored = viewer.layers["small [restored]"]
    assert restored.ndim == (2 if len(voxels) == 1 else 3)
    assert restored.data.shape == viewer.layers["small"].data.shape
    low, high = viewer.layers["small [restored - input]"].contrast_limits
    assert low == -high < 0


def test_a_scan_with_a_time_axis_offers_its_frames(viewer, make_panel, denoise_anyway, run_to_the_end):
    frames = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    viewer.add_image(frames, name="heart")
    viewer.dims.set_current_step(0, 1)
    panel = denoise_anyway(make_panel(viewer))
    assert not panel.form.time_index.native.isHidden()
    assert panel.form.time_index.value == 1, "the displayed frame"
    run_to_the_end(panel, "volume")
    assert np.array_equal(viewer.layers["heart frame 1 [restored]"].data, frames[1] - np.float32(CHANGE))


def test_a_scan_at_another_position_is_brought_into_view(viewer, ct_panel, denoise_anyway, run_to_the_end, restoration):
    viewer.add_image(np.zeros((9, 24, 32)), name="far", scale=(2, 1, 1), translate=(900, 0, 0))
    denoise_anyway(ct_panel)
    run_to_the_end(ct_panel, "slice")
    assert restoration.asked == [[4]]
    assert viewer.dims.point[0] == 908


def test_slices_along_another_axis_than_the_slider_are_refused(viewer, ct_panel):
    viewer.dims.order = (1, 0, 2)
    ct_panel.restore()
    assert ct_panel.message.text().startswith("Slices are restored along z, and the slider runs along another axis")
    assert not ct_panel.job.running


def with_reason(scan, reason):
    return scan.with_voxels(scan.voxels, metadata={"modality_reason": reason})


def test_a_line_in_the_form_is_as_high_as_its_text(ct_panel):
    ct_panel.resize(360, 800)
    ct_panel.show()
    line = ct_panel.form.about_task
    for words in ("chosen because the values reach from -1024 to 3071, as in HU", "", "short", "long " * 40):
        line.setText(words)
        QCoreApplication.sendPostedEvents()
        assert line.height() >= line.heightForWidth(line.width())


def test_resumed_options_choose_their_own_weights_not_the_proposed_ones(ct_panel, viewer):
    classical = ModelEntry("classical:ct-denoise", "non-local means", "a filter", "CT", learned=False)
    shipped = ModelEntry("ct-denoise", "light", "a network", "CT")
    for proposed, other in ((classical, shipped), (shipped, classical)):
        ct_panel.form.weights.tell_models({"ct-denoise": (proposed, other)})
        ct_panel.form.fill_in(RestoreOptions(layer=viewer.layers[CT], weights=other.weights, region="volume"))
        assert ct_panel.form.weights.entry is other
        assert ct_panel.form.options().weights == other.weights


def test_a_warning_goes_when_another_choice_is_made(ct_panel):
    ct_panel.form.task.value = "mri-sr"
    ct_panel.restore()
    assert ct_panel.message.text().startswith("There are no weights for")
    ct_panel.form.task.value = "ct-denoise"
    assert ct_panel.message.text() == ""


def test_a_slice_is_named_by_the_number_that_its_slider_shows(ct_panel, run_to_the_end, viewer):
    run_to_the_end(ct_panel, "slice")
    ct_panel.form.region.value = "slice"
    ct_panel.restore()
    assert viewer.dims.current_step[0] == 2
    assert ct_panel.message.text().startswith("Slice 2 is already restored with these choices")


def test_untrusted_text_is_shown_literally(ct_panel):
    hostile = ModelEntry("ct-denoise", "light", "<img src='http://example.org'> <b>best</b>", "CT")
    ct_panel.form.weights.tell_models({"ct-denoise": (hostile,)})
    assert "<img" not in ct_panel.form.weights.combo.toolTip()
    ct_panel.form.weights.card.click()
    assert ct_panel.message.text() == hostile.card
    assert ct_panel.message.textFormat() == Qt.TextFormat.PlainText
