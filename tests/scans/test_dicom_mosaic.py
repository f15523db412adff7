"""Siemens mosaics, against the same scan as single slices, and against nibabel; dcm2niix is asked beside this."""

import warnings

import numpy as np
import pytest
from dicoms import CORNER, GAP, NORMAL, write_series, write_slice
from mosaics import csa_header, write_mosaic
from pydicom.dataelem import DataElement

from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.dicom.writing import write_derived_series
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import same_geometry, to_canonical
from napari_restore_rwkv.scans.volume.files import SeveralFramesError

UNKNOWN = r"mosaic\.dcm is a Siemens mosaic, .* and cannot be split up: .*{}.*; export the series again"


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 10])
def test_a_mosaic_is_the_scan_of_its_slices(tmp_path, rng, count):
    pixels = rng.integers(0, 3000, (count, 6, 8), dtype=np.uint16)
    names = "abcdefghij"[:count]
    changes = {"Modality": "MR", "RescaleIntercept": 0, "SpacingBetweenSlices": GAP}
    expected = read_scan(write_series(tmp_path / "series", pixels, names, **changes))
    scan = read_scan(write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER))
    np.testing.assert_array_equal(scan.voxels, expected.voxels, strict=True)
    assert same_geometry(scan, expected)
    assert (scan.modality, scan.acquired_along) == ("MR", 0)


def test_slices_against_the_normal_keep_their_positions(tmp_path, pixels):
    """Sagittal Siemens mosaics have this order."""
    ahead = read_scan(write_mosaic(tmp_path / "ahead.dcm", pixels, CORNER))
    last = CORNER + 4 * GAP * NORMAL
    behind = read_scan(write_mosaic(tmp_path / "behind.dcm", pixels[::-1], last, sign=-1))
    assert same_geometry(to_canonical(behind), to_canonical(ahead))
    np.testing.assert_array_equal(to_canonical(behind).voxels, to_canonical(ahead).voxels)


@pytest.mark.parametrize("sign", [1, -1])
def test_nibabel_puts_the_voxels_in_the_same_places(tmp_path, pixels, sign):
    path = write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER, sign=sign)
    scan = read_scan(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nibabel.nicom.dicomwrappers import wrapper_from_file

        theirs = wrapper_from_file(path)
        data = np.asarray(theirs.get_data())
        affine = theirs.affine
    # Its axes run along columns first, and then rows.
    for z, y, x in [(0, 0, 0), (4, 5, 7), (2, 1, 6)]:
        place = (affine @ [y, x, z, 1])[:3]
        ours = np.linalg.solve(scan.direction * scan.spacing_mm[::-1], place - np.array(scan.origin_mm))
        i, j, k = np.round(ours).astype(int)
        np.testing.assert_allclose(ours, (i, j, k), atol=1e-3)
        assert scan.voxels[k, j, i] == data[y, x, z]


def test_every_mosaic_of_a_run_is_a_frame(tmp_path, rng):
    run = rng.integers(0, 3000, (3, 5, 6, 8), dtype=np.uint16)
    for number, pixels in enumerate(run):
        write_mosaic(tmp_path / f"{2 - number}.dcm", pixels, CORNER, AcquisitionNumber=number, InstanceNumber=number)
    with pytest.raises(SeveralFramesError, match="contains 3 frames"):
        read_scan(tmp_path)
    for number, pixels in enumerate(run):
        np.testing.assert_array_equal(read_scan(tmp_path, time_index=number).voxels, pixels)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "the private Siemens header is missing or damaged"),
        (b"SV10\4\3\2\1\xff\xff\xff\xff", "the private Siemens header is missing or damaged"),
        ({"NumberOfImagesInMosaic": ["5"]}, "the private Siemens header is missing or damaged"),
        ({"NumberOfImagesInMosaic": ["5"], "SliceNormalVector": ["a", "b", "c"]}, "has text where numbers are needed"),
        ({"NumberOfImagesInMosaic": ["5"], "SliceNormalVector": ["0", "1"]}, "makes no sense"),
        ({"NumberOfImagesInMosaic": ["0"], "SliceNormalVector": ["0", "0", "1"]}, "makes no sense"),
        ({"NumberOfImagesInMosaic": ["5"], "SliceNormalVector": ["nan", "0", "1"]}, "makes no sense"),
        ({"NumberOfImagesInMosaic": ["17"], "SliceNormalVector": ["0", "0", "1"]}, "18 x 24 pixels cannot hold 17"),
        ({"NumberOfImagesInMosaic": ["5"], "SliceNormalVector": ["1", "0", "0"]}, "do not follow each other along"),
    ],
)
def test_a_mosaic_that_cannot_be_cut_is_refused(tmp_path, pixels, header, words):
    header = csa_header(**header) if isinstance(header, dict) else header
    write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER, header=header)
    with pytest.raises(ScanError, match=UNKNOWN.format(words)):
        read_scan(tmp_path / "mosaic.dcm")


def test_a_mosaic_without_a_gap_between_slices_is_refused(tmp_path, pixels):
    write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER, SpacingBetweenSlices=0, SliceThickness=0)
    with pytest.raises(ScanError, match=UNKNOWN.format("it does not say how far apart")):
        read_scan(tmp_path / "mosaic.dcm")


def test_any_cut_through_the_private_header_is_refused_or_reads_the_same(tmp_path, pixels):
    normal = [f"{value:.8f}" for value in NORMAL]
    whole = csa_header(NumberOfImagesInMosaic=["5"], SliceNormalVector=normal, Other=["x"])
    for size in range(0, len(whole), 7):
        write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER, header=whole[:size])
        with pytest.raises(ScanError, match="is a Siemens mosaic"):
            read_scan(tmp_path / "mosaic.dcm")


def test_no_derived_series_is_made_of_a_mosaic(tmp_path, pixels):
    path = write_mosaic(tmp_path / "mosaic.dcm", pixels, CORNER)
    with pytest.raises(OutputError, match="or a mosaic, but derived series are of single slices"):
        finish(write_derived_series(read_scan(path), tmp_path / "derived", path, {}))


def test_a_grid_of_united_imaging_is_refused(tmp_path, rng):
    grid = DataElement(0x00651050, "DS", "16")
    pixels = rng.integers(0, 99, (64, 64), dtype=np.uint16)
    write_slice(tmp_path / "grid.dcm", pixels, CORNER, Modality="MR", Manufacturer="UIH", more=[grid])
    with pytest.raises(ScanError, match=r"^grid\.dcm is a United Imaging grid, 16 slices side by side in one picture"):
        read_scan(tmp_path / "grid.dcm")
    write_slice(tmp_path / "one.dcm", pixels, CORNER, Modality="MR", Manufacturer="Other", more=[grid])
    assert read_scan(tmp_path / "one.dcm").shape == (1, 64, 64)
