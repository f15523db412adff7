"""Layers of other plugins beside a scan that is restored: in other units, in colour, in several resolutions, turned."""

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Points, Shapes, Vectors

from napari_restore_rwkv.gui.camera import ZOOMED_IN, closer_than_fitting
from napari_restore_rwkv.gui.layers import RECORD

RESTORED = "CT abdomen [restored]"
PICTURE = np.random.default_rng(0).random((40, 48)).astype(np.float32)
TURNED = np.array([[0, -1, 5], [1, 0, 2], [0, 0, 1.0]])

BESIDE = {
    "colour": lambda: Image((PICTURE[..., None] * [255, 200, 9]).astype(np.uint8), rgb=True, name="photo"),
    "micrometre": lambda: Image(PICTURE, scale=(0.2, 0.2), units=("um", "um"), name="cells"),
    "micrometre volume": lambda: Image(PICTURE[None] * np.ones((6, 1, 1)), scale=(2, 0.2, 0.2), units=("um",) * 3),
    "multiscale": lambda: Image([PICTURE, PICTURE[::2, ::2]], multiscale=True, name="pyramid"),
    "turned": lambda: Image(PICTURE, affine=TURNED, name="turned"),
    "no units": lambda: Image(PICTURE, name="pixels"),
    "time lapse": lambda: Image(np.zeros((3, 2, 40, 48), np.uint8), name="movie"),
    "labels": lambda: Labels(np.ones((40, 48), int), name="cells"),
    "points": lambda: Points(np.array([[3.0, 4.0], [900.0, 20.0]]), name="spots"),
    "shapes": lambda: Shapes([np.array([[0, 0], [9, 9]])], shape_type="line", name="cut"),
    "vectors": lambda: Vectors(np.ones((4, 2, 2)), name="flow"),
}


def place_of(layer):
    return layer.scale.copy(), layer.translate.copy(), layer.affine.affine_matrix.copy(), layer.units


@pytest.mark.parametrize("others", BESIDE)
def test_other_plugins_layers_beside_a_scan_are_left_as_they_are(viewer, ct_layer, make_panel, run_to_the_end, others):
    beside = viewer.add_layer(BESIDE[others]())
    scan = viewer.add_layer(Layer.create(*ct_layer))
    before, data = place_of(beside), [np.array(part) for part in beside.data]
    panel = make_panel(viewer)
    panel.choose_layer(scan)
    run_to_the_end(panel)
    assert all(np.array_equal(one, other) for one, other in zip(before, place_of(beside), strict=True))
    assert beside in viewer.layers
    assert all(np.array_equal(one, other) for one, other in zip(data, beside.data, strict=True))
    restored = viewer.layers[RESTORED]
    assert all(np.array_equal(one, other) for one, other in zip(place_of(scan), place_of(restored), strict=True))


@pytest.mark.parametrize("others", BESIDE)
def test_a_single_picture_is_restored_beside_other_plugins_layers(viewer, make_panel, run_to_the_end, others):
    """Others may have more axes than the scan; the whole of it is then seen, not of them."""
    viewer.add_layer(BESIDE[others]())
    wide = viewer.add_image(np.zeros((5, 400, 300), np.float32), name="atlas")
    scan = viewer.add_image(PICTURE[:24, :32], name="slice", metadata={RECORD: {"modality": "CT"}})
    # Whoever has looked closely at something keeps to it.
    viewer.reset_view()
    panel = make_panel(viewer)
    panel.choose_layer(scan)
    run_to_the_end(panel)
    assert panel.job.comparison is not None
    assert viewer.layers["slice [restored]"].data.shape == (24, 32)
    assert wide in viewer.layers
    assert 1 / ZOOMED_IN < closer_than_fitting(viewer, layers=panel.job.comparison.layers) < 1
