"""Annotations for fine-tuning: the layer that one button makes, what it covers, and shapes filled into it."""

import numpy as np
import pytest
from napari.layers import Labels, Layer, Shapes

from napari_restore_rwkv.gui.fine_tune.annotation_layers import annotation_layer, fill_shapes
from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.training.annotations import PALETTE


@pytest.fixture
def panel(viewer, pair_layers, make_fine_tune_panel):
    return make_fine_tune_panel(viewer, *pair_layers)


@pytest.fixture
def labels():
    """An empty annotation layer of 6 slices of 20 x 24 voxels that are not cubes, somewhere in space."""
    scan = Scan(np.zeros((6, 20, 24), np.int16), (4.0, 0.5, 0.5), (-12.0, 7.0, 100.0), modality="CT", unit="HU")
    return annotation_layer(Layer.create(*scan_to_layer(scan, "CT")))


def checked(qtbot, panel):
    qtbot.waitUntil(lambda: not panel._checks.busy, timeout=20_000)
    return panel


def shown(panel, label):
    return panel.annotations._covers[label].text()


@pytest.mark.slow
def test_one_button_makes_a_labels_layer_with_the_named_palette(viewer, panel):
    panel.annotations.new.click()
    layer = viewer.layers["low dose [annotations]"]
    assert layer.data.shape == viewer.layers["low dose"].data.shape
    assert np.allclose(layer.scale, viewer.layers["low dose"].scale)
    assert np.allclose(layer.translate, viewer.layers["low dose"].translate)
    assert not layer.data.any()
    for label, known in PALETTE.items():
        assert layer.get_color(label)[:3] == pytest.approx(known.colour, abs=0.01)
    assert list(layer.features["class"])[1:] == ["train here", "emphasise", "ignore", "keep as is", "hold out"]
    assert layer.mode == "paint"
    assert viewer.layers.selection.active is layer
    assert panel.annotations.layer is layer


def test_keys_and_legend_choose_the_class_that_is_painted(viewer, panel):
    panel.annotations.new.click()
    layer = panel.annotations.layer
    assert not panel.annotations.legend.isHidden()
    panel.annotations._buttons.button(4).click()
    assert layer.selected_label == 4
    next(action for key, action in layer.keymap.items() if str(key) == "Alt+5")(layer)
    assert layer.selected_label == 5
    assert panel.annotations.label == 5
    layer.selected_label = 3
    assert panel.annotations.label == 3, "chosen in napari's own controls"


def test_slices_and_pixels_of_each_class_are_counted_while_painting_and_undone(panel, qtbot):
    panel.annotations.new.click()
    layer = panel.annotations.layer
    layer.data_setitem(np.nonzero(block(layer, slice(2, 4), slice(0, 5), slice(0, 10))), 1)
    layer.data_setitem(np.nonzero(block(layer, slice(12, 13), slice(0, 3), slice(0, 1))), 5)
    checked(qtbot, panel)
    assert shown(panel, 1) == "2 slices · 100 px"
    assert shown(panel, 5) == "1 slice · 3 px"
    assert shown(panel, 2) == "-"
    assert panel.split.text() == (
        "Trains on slices 0-9, 15 (11), holds out 12 (1), leaves out 10-11, 13-14 between them."
    )
    assert panel.warnings.isHidden()
    layer.undo()
    layer.undo()
    checked(qtbot, panel)
    assert shown(panel, 1) == shown(panel, 5) == "-"


def test_training_slices_beside_held_out_ones_are_warned_of(panel, qtbot):
    panel.annotations.new.click()
    layer = panel.annotations.layer
    layer.data_setitem(np.nonzero(block(layer, slice(6, 8), slice(0, 5), slice(0, 5))), 1)
    layer.data_setitem(np.nonzero(block(layer, slice(9, 10), slice(0, 5), slice(0, 5))), 5)
    checked(qtbot, panel)
    assert panel.warnings.text() == (
        "Slice 7 is marked for training, but within 2 slices of a held-out one and would leak into its score: "
        "not trained on. Mark slices further away."
    )
    assert not panel.warnings.isHidden()


def test_the_default_split_trains_on_what_is_painted(panel, qtbot):
    checked(qtbot, panel)
    assert panel.split.text().endswith("holds out 9-11 (3), leaves out 7-8, 12-13 between them.")
    panel.annotations.new.click()
    layer = panel.annotations.layer
    layer.data_setitem(np.nonzero(block(layer, slice(8, 9), slice(0, 5), slice(0, 5))), 1)
    checked(qtbot, panel)
    assert panel.split.text().startswith("Trains on slices 0-8 (9), holds out 11-13 (3)")
    assert panel.warnings.isHidden()


def test_marks_outside_the_training_slices_are_reported_before_training(panel, qtbot):
    panel.annotations.new.click()
    layer = panel.annotations.layer
    for index, label in ((8, 1), (10, 5)):
        layer.data_setitem(np.nonzero(block(layer, slice(index, index + 1), slice(0, 5), slice(0, 5))), label)
    checked(qtbot, panel)
    assert "Training is not possible: nothing is marked 1 (train here) in a slice that" in panel.warnings.text()
    assert not panel.run.start.isEnabled()
    layer.data_setitem(np.nonzero(block(layer, slice(2, 3), slice(0, 5), slice(0, 5))), 2)
    checked(qtbot, panel)
    assert "Training is not possible" not in panel.warnings.text()
    assert panel.run.start.isEnabled()


def test_labels_of_another_meaning_are_refused_with_a_message(viewer, panel, qtbot):
    organs = viewer.add_layer(Labels(np.full((16, 32, 32), 7, np.uint8), name="organs"))
    panel.annotations.layers.choose(organs)
    checked(qtbot, panel)
    assert panel.warnings.text().startswith("Slice 0 has the unknown label 7; use 1 train here")
    panel.start()
    assert panel.message.isHidden(), "the panel shows it above"
    assert not panel.job.running


def test_labels_on_another_grid_are_refused_with_a_message(viewer, panel, qtbot):
    panel.annotations.layers.choose(viewer.add_layer(Labels(np.ones((16, 8, 8), np.uint8), name="small")))
    checked(qtbot, panel)
    assert panel.warnings.text() == (
        "The labels have shape (16, 8, 8) and the scan (16, 32, 32); give labels on the grid of the scan."
    )


def test_a_rectangle_marks_the_voxels_whose_centres_it_contains(labels):
    corners = np.array([[4, 2.5, 3.5], [4, 2.5, 8.5], [4, 6.5, 8.5], [4, 6.5, 3.5]])
    # The shapes lie in a space of their own: millimetres, as napari makes them for a scan.
    world = np.array([labels.data_to_world(corner) for corner in corners])
    assert fill_shapes(Shapes([world], shape_type="rectangle", ndim=3), labels, 4) == (4 * 5, 0)
    expected = np.zeros(labels.data.shape, np.uint8)
    expected[4, 3:7, 4:9] = 4
    assert np.array_equal(labels.data, expected)


def test_an_ellipse_and_a_polygon_on_a_coronal_slice_are_filled(labels):
    ellipse = np.array([[2, 2, 2], [2, 2, 14], [2, 14, 14], [2, 14, 2]], float)
    triangle = np.array([[0, 10, 0], [5, 10, 0], [5, 10, 10]], float)
    place = {"scale": labels.scale, "translate": labels.translate}
    fill_shapes(Shapes([ellipse], shape_type="ellipse", **place), labels, 1)
    y, x = np.mgrid[:20, :24]
    inside = (y - 8) ** 2 + (x - 8) ** 2 <= 36
    assert np.abs((labels.data[2] == 1).astype(int) - inside).sum() <= 8
    assert not labels.data[[0, 1, 3, 4, 5]].any()
    fill_shapes(Shapes([triangle], shape_type="polygon", **place), labels, 3)
    assert labels.data[5, 10, 4] == labels.data[3, 10, 5] == 3
    assert labels.data[1, 10, 8] != 3
    assert not (labels.data[:, 9] == 3).any()
    labels.undo()
    assert not (labels.data == 3).any(), "one step back"


def test_flat_shapes_are_filled_in_every_slice_and_oblique_ones_left_out(labels):
    place = {"scale": labels.scale[1:], "translate": labels.translate[1:]}
    square = np.array([[1, 1], [1, 3], [3, 3], [3, 1]], float)
    assert fill_shapes(Shapes([square], shape_type="polygon", **place), labels, 2) == (6 * 9, 0)
    assert (labels.data[:, 1:4, 1:4] == 2).all()
    oblique = np.array([[0, 0, 0], [0, 10, 10], [4, 10, 5]], float)
    place = {"scale": labels.scale, "translate": labels.translate}
    assert fill_shapes(Shapes([oblique], shape_type="polygon", **place), labels, 1) == (0, 1)


def test_a_line_marks_the_voxels_along_it_and_ends_at_the_border(labels):
    place = {"scale": labels.scale, "translate": labels.translate}
    line = np.array([[1, 5, 20], [1, 5, 40]], float)
    fill_shapes(Shapes([line], shape_type="line", **place), labels, 3)
    assert np.flatnonzero(labels.data[1, 5]).tolist() == [20, 21, 22, 23]


def test_the_button_fills_shapes_with_the_chosen_class_and_says_how_many(viewer, panel, qtbot):
    scan = viewer.layers["low dose"]
    square = np.array([[3, 4, 4], [3, 4, 8], [3, 8, 8], [3, 8, 4]], float)
    shapes = viewer.add_layer(Shapes([square], shape_type="polygon", scale=scan.scale, translate=scan.translate))
    panel.annotations.shapes.choose(shapes)
    panel.annotations.choose(2)
    panel.annotations.fill.click()
    assert (panel.annotations.layer.data[3, 4:9, 4:9] == 2).all()
    assert panel.message.text() == "25 pixels in shapes are marked 2, emphasise."
    checked(qtbot, panel)
    assert shown(panel, 2) == "1 slice · 25 px"


def test_without_shapes_the_user_is_asked_to_draw_some(panel):
    panel.annotations.fill_in()
    assert panel.message.text() == "There are no shapes yet: add a Shapes layer, and draw on the scan."


def block(layer, *where):
    inside = np.zeros(layer.data.shape, bool)
    inside[where] = True
    return inside
