"""Which axis the slices of a scan follow: the acquired one, and none along which they are strips."""

import numpy as np
import pytest
from dicoms import write_slice

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import AXES, Scan, to_canonical
from napari_restore_rwkv.scans.slice_axis import choose_slice_axis

SAGITTAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])


def scan_of(shape, spacing_mm, **known):
    return Scan(np.broadcast_to(np.int16(0), shape), spacing_mm=spacing_mm, **known)


@pytest.mark.parametrize(
    ("spacing_mm", "axis", "reason"),
    [
        ((0.625, 0.98, 0.98), "z", "the patient's length, as no spacing is by far the largest"),
        ((3.0, 4.0, 4.0), "z", "the patient's length, as no spacing is by far the largest"),
        ((1.0, 1.0, 1.0), "z", "the patient's length, as no spacing is by far the largest"),
        ((1.0, 1.49, 1.0), "z", "the patient's length, as no spacing is by far the largest"),
        ((1.0, 3.0, 3.0), "z", "the patient's length, as no spacing is by far the largest"),
        ((1.0, 1.5, 1.0), "y", "whose spacing of 1.5 mm is by far the largest"),
        ((0.9, 0.9, 5.0), "x", "whose spacing of 5 mm is by far the largest"),
        ((5.0, 0.9, 0.9), "z", "whose spacing of 5 mm is by far the largest"),
    ],
)
def test_only_a_clearly_larger_spacing_overrules_z(spacing_mm, axis, reason):
    chosen = choose_slice_axis(scan_of((64, 64, 64), spacing_mm))
    assert (AXES[chosen.axis], chosen.reason) == (axis, reason)


def test_the_acquired_slices_count_more_than_any_spacing():
    chosen = choose_slice_axis(scan_of((64, 64, 64), (0.625, 5.0, 0.98), acquired_along=0))
    assert str(chosen) == "z, across the slices that were acquired"


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "axis"),
    [
        # Nothing below 32 pixels.
        ((8, 64, 64), (1, 1, 1), "z"),
        ((64, 32, 64), (1, 1, 1), "z"),
        # Strips along z, and whole images along y.
        ((64, 31, 64), (1, 1, 1), "y"),
        ((64, 64, 31), (1, 1, 1), "x"),
        # Along z and x they would be strips, by however much the spacing.
        ((64, 12, 64), (4.0, 1.0, 1.0), "y"),
        # Everything is narrow.
        ((64, 12, 20), (1, 1, 1), "z"),
        ((8, 8, 8), (1, 1, 3), "x"),
    ],
)
@pytest.mark.parametrize("acquired", [None, 0])
def test_slices_along_another_axis_are_preferred_to_strips(shape, spacing_mm, axis, acquired):
    chosen = choose_slice_axis(scan_of(shape, spacing_mm, acquired_along=acquired))
    expected = "z" if acquired == 0 and axis == "x" and spacing_mm == (1, 1, 3) else axis
    assert AXES[chosen.axis] == expected


def test_the_reason_names_the_strips():
    chosen = choose_slice_axis(scan_of((64, 12, 70), (1.0, 1.0, 1.0)))
    assert str(chosen) == "y, because slices along z have only 12 x 70 pixels"


@pytest.mark.parametrize("acquired", [None, 0, 1, 2])
def test_viewer_and_file_choose_the_same_slices(acquired):
    """The viewer turns a scan; whichever axis is chosen lies in the patient as it would without that."""
    scan = scan_of((64, 50, 40), (1.0, 1.0, 1.0), direction=SAGITTAL, acquired_along=acquired)
    turned = to_canonical(scan)
    assert turned.shape != scan.shape
    before, after = choose_slice_axis(scan), choose_slice_axis(turned)
    np.testing.assert_allclose(abs(scan.direction[:, 2 - before.axis]), abs(turned.direction[:, 2 - after.axis]))
    assert before.reason == after.reason


@pytest.mark.parametrize("axis", AXES)
def test_a_requested_axis_is_used(axis):
    chosen = choose_slice_axis(scan_of((64, 2, 64), (1, 9, 1), acquired_along=0), axis)
    assert str(chosen) == f"{axis}, as was asked for"


def test_another_name_is_refused():
    with pytest.raises(ScanError, match="The slice axis must be auto, z, y or x; got 't'"):
        choose_slice_axis(scan_of((4, 4, 4), (1, 1, 1)), "t")


def test_dicom_knows_its_acquired_slices(tmp_path, rng):
    """Thin sagittal slices whose pixels are larger than their distance."""
    rows = np.array([[0.0, 1, 0], [0, 0, -1]])
    for index in range(3):
        corner = np.array([0.5 * index, 0, 0])
        pixels = rng.integers(0, 99, (40, 40), dtype=np.uint16)
        write_slice(tmp_path / f"{index}.dcm", pixels, corner, ImageOrientationPatient=[*rows.ravel()])
    scan = read_scan(tmp_path)
    assert (choose_slice_axis(scan).axis, choose_slice_axis(to_canonical(scan)).axis) == (0, 2)
