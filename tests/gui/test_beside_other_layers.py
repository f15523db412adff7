"""Layers of other plugins beside a scan that is restored: in other units, in colour, in several resolutions, turned."""

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

RESTORED = "CT abdomen [restored]"


@pytest.mark.parametrize("others", ["colour", "micrometre", "multiscale", "turned", "no units", "labels"])
def test_other_plugins_layers_beside_a_scan_are_left_as_they_are(viewer, ct_layer, make_panel, run_to_the_end, others):
    rng = np.random.default_rng(0)
    picture = rng.random((40, 48)).astype(np.float32)
    beside = {
        "colour": lambda: Image(rng.integers(0, 255, (40, 48, 3), np.uint8), rgb=True, name="photo"),
        "micrometre": lambda: Image(picture, scale=(0.2, 0.2), units=("um", "um"), name="cells"),
        "multiscale": lambda: Image([picture, picture[::2, ::2]], multiscale=True, name="pyramid"),
        "turned": lambda: Image(picture, affine=np.array([[0, -1, 5], [1, 0, 2], [0, 0, 1.0]]), name="turned"),
        "no units": lambda: Image(picture, name="pixels"),
        "labels": lambda: Labels(rng.integers(0, 3, (40, 48)), name="cells"),
    }[others]()
    viewer.add_layer(beside)
    scan = viewer.add_layer(Layer.create(*ct_layer))
    before = beside.scale.copy(), beside.translate.copy(), beside.affine.affine_matrix.copy(), beside.units
    panel = make_panel(viewer)
    panel.choose_layer(scan)
    run_to_the_end(panel)
    assert RESTORED in viewer.layers
    after = beside.scale, beside.translate, beside.affine.affine_matrix, beside.units
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert beside in viewer.layers
    assert np.allclose(viewer.layers[RESTORED].scale, scan.scale)
