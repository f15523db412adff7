"""Layers become scans, or are refused with the reason."""

import numpy as np
import pytest
from napari.layers import Image, Labels, Points

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.gui.layers import describe, image_to_scan, layer_to_scan, scan_to_layer, window_of
from napari_restore_rwkv.scans.scan import Scan


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            Image(np.zeros((4, 8, 3), np.uint8), rgb=True, name="photo"),
            r'"photo" is a colour image \(RGB\); .* convert',
        ),
        (Labels(np.zeros((4, 8), int), name="liver"), '"liver" is a labels layer; only an image layer can be restored'),
        (Points(np.zeros((4, 3)), name="marks"), '"marks" is a points layer'),
        (Image(np.zeros((4, 8), bool), name="body"), '"body" is a boolean mask, not a scan'),
        (Image(np.zeros((2, 3, 4, 5)), name="heart"), '"heart" has four dimensions: choose which of its 2 frames'),
        (Image(np.zeros((1, 2, 3, 4, 5)), name="five"), '"five" has 5 dimensions'),
    ],
    ids=["rgb", "labels", "points", "bool", "time", "five"],
)
def test_a_layer_that_is_not_a_scan_is_refused_with_a_message(layer, words):
    with pytest.raises(ScanError, match=words):
        layer_to_scan(layer)


def test_complex_numbers_are_refused_with_a_message():
    with pytest.raises(
        ScanError, match='"k" contains complex numbers; restoration needs real ones: take the magnitude'
    ):
        image_to_scan(np.zeros((4, 8), np.complex64), {"name": "k"})


def test_an_empty_image_is_refused_with_a_message():
    with pytest.raises(ScanError, match=r'"void" is empty \(shape 0 x 8\): there is nothing to restore'):
        image_to_scan(np.zeros((0, 8)), {"name": "void"})


def test_a_single_row_of_values_is_refused_with_a_message():
    with pytest.raises(
        ScanError, match=r'"row" has 1 dimension \(shape 7\); a scan has two \(a slice\), three, or four'
    ):
        image_to_scan(np.zeros(7), {"name": "row"})


def test_a_slice_becomes_a_scan_of_one_slice():
    scan = layer_to_scan(Image(np.ones((3, 5)), scale=(0.5, 0.7)))
    assert scan.shape == (1, 3, 5)
    assert scan.spacing_mm == (1.0, 0.5, 0.7)


def test_the_chosen_frame_is_taken():
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    scan = layer_to_scan(Image(frames, scale=(1, 4, 2, 2)), time_index=1)
    assert np.array_equal(scan.voxels, frames[1])
    assert scan.spacing_mm == (4, 2, 2)


def test_a_frame_that_is_not_there_is_refused():
    with pytest.raises(ScanError, match="has frames 0 to 1, not 2"):
        layer_to_scan(Image(np.zeros((2, 3, 4, 5)), name="heart"), time_index=2)


def test_a_lazy_frame_is_read_only_where_it_is_asked_for():
    lazy = Watched(np.arange(2 * 30 * 8 * 8, dtype=np.float32).reshape(2, 30, 8, 8))
    layer = Image(lazy, contrast_limits=(0, 1))
    lazy.read.clear()
    scan = layer_to_scan(layer, time_index=1)
    assert lazy.read == []
    assert np.array_equal(np.asarray(scan.voxels[3:4]), lazy.values[1, 3:4])


def test_multiscale_layers_are_restored_at_full_resolution():
    full = np.zeros((4, 16, 16))
    assert layer_to_scan(Image([full, full[:, ::2, ::2]], multiscale=True)).shape == full.shape


def test_lengths_in_other_units_come_out_in_mm():
    scan = layer_to_scan(Image(np.zeros((2, 4, 4)), scale=(2000, 500, 500), units=("um",) * 3, translate=(1000, 0, 0)))
    assert scan.spacing_mm == pytest.approx((2.0, 0.5, 0.5))
    assert scan.origin_mm == pytest.approx((0.0, 0.0, 1.0))


def test_a_scan_that_was_read_keeps_its_oblique_geometry(ct_scan):
    data, attributes, _ = scan_to_layer(ct_scan, "CT")
    scan = layer_to_scan(Image(data, **attributes))
    assert scan.spacing_mm == ct_scan.spacing_mm
    assert scan.origin_mm == ct_scan.origin_mm
    assert np.allclose(scan.direction, ct_scan.direction)
    assert (scan.modality, scan.unit, scan.metadata["source"]) == ("CT", "HU", "abdomen.nii")
    assert scan.voxels is data


def test_a_scan_is_shown_in_mm_with_the_window_of_its_modality(ct_scan):
    _, attributes, kind = scan_to_layer(ct_scan, "CT")
    assert kind == "image"
    assert attributes["contrast_limits"] == (-160, 240)
    assert attributes["units"] == ("mm", "mm", "mm")
    assert attributes["axis_labels"] == ("z", "y", "x")
    assert attributes["scale"] == ct_scan.spacing_mm
    assert attributes["translate"] == (40.0, -120.0, -150.0)


@pytest.mark.parametrize("voxels", [np.full((2, 3, 5), 7.0), np.full((2, 3, 5), np.nan), np.full((1, 3, 5), np.inf)])
def test_constant_and_not_finite_scans_get_a_proper_window(voxels):
    low, high = window_of(Scan(voxels.astype(np.float32)))
    assert low < high


def test_the_info_line_says_size_spacing_and_unit(ct_scan):
    big = ct_scan.with_voxels(np.broadcast_to(np.int16(0), (20, 512, 512)), spacing_mm=(2.0, 0.977, 0.977))
    assert describe(big) == "20 x 512 x 512 · 2.0 x 0.98 x 0.98 mm · HU"
    small = big.with_voxels(big.voxels, spacing_mm=(0.05, 0.001, 0.00025))
    assert describe(small) == "20 x 512 x 512 · 0.05 x 0.001 x 0.00025 mm · HU"


class Watched:
    """A lazy array that remembers what was read."""

    def __init__(self, values):
        self.values, self.read = values, []
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, index):
        self.read.append(index)
        return self.values[index]
