"""MetaImage headers: what ITK makes of a good one, and a sentence for what would make it crash, hang or invent."""

import os
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from text_files import VOXELS, metaimage

from napari_restore_rwkv.commands.cli import main
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan

PACKED = zlib.compress(VOXELS.tobytes())


def both(path):
    """Read eagerly and lazily; both have to agree."""
    eager, lazy = read_scan(path), open_scan(path, large=0)
    np.testing.assert_array_equal(eager.voxels, np.asarray(lazy.voxels))
    assert (eager.spacing_mm, eager.origin_mm) == (lazy.spacing_mm, lazy.origin_mm)
    np.testing.assert_array_equal(eager.direction, lazy.direction)
    return eager


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"BinaryDataByteOrderMSB": "1"},
        {"ElementByteOrderMSB": "true"},
        {"ElementSpacing": None, "ElementSize": "2 3 4"},
        {"ElementSpacing": "0.7 -0.9 2.5"},
        {"TransformMatrix": "0 1 0 0 0 1 1 0 0", "Offset": "-11 22 33"},
        {"Position": "1 2 3", "Orientation": "1 0 0 0 -1 0 0 0 -1"},
        {"Comment": "M\xfcller", "AnatomicalOrientation": "RAI", "CenterOfRotation": "9 9 9"},
        {"CompressedDataSize": "999999999999999"},
        {"Comment": "v" * 100},
    ],
)
def test_a_valid_header_is_read_as_itk_reads_it(tmp_path, fields):
    path = metaimage(tmp_path / "scan.mha", **fields)
    scan = both(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(scan.voxels, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(scan.spacing_mm[::-1], image.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(scan.origin_mm, image.GetOrigin(), rtol=1e-12)
    np.testing.assert_allclose(scan.direction.ravel(), image.GetDirection(), rtol=1e-12)


def test_long_names_and_values_are_read(tmp_path):
    for line in (f"{'K' * 6000} = 1", f"Comment = {'v' * 100_000}"):
        np.testing.assert_array_equal(both(metaimage(tmp_path / "scan.mha", line)).voxels, VOXELS)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("um", 1e-3), ("cm", 10)])
def test_distance_units_are_honoured(tmp_path, unit, factor):
    scan = both(metaimage(tmp_path / "scan.mha", DistanceUnits=unit, Offset="10 20 30"))
    assert scan.spacing_mm == pytest.approx((2.5 * factor, 0.9 * factor, 0.7 * factor))
    assert scan.origin_mm == pytest.approx((10 * factor, 20 * factor, 30 * factor))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"NDims": "0"}, "gives 0 as NDims and 3 numbers as DimSize"),
        ({"NDims": "99"}, "gives 99 as NDims"),
        ({"NDims": "-1"}, "gives -1 as NDims"),
        ({"NDims": "1e308"}, "gives 1e308 as NDims, but whole numbers are needed"),
        ({"NDims": None}, "gives nothing as NDims|gives 0 numbers as NDims"),
        ({"DimSize": "6 5 4e0"}, "gives 6 5 4e0 as DimSize, but whole numbers"),
        ({"DimSize": "6 5 -4"}, "is empty: its header gives 6 x 5 x -4 voxels"),
        ({"DimSize": "6 5 4" + " 1" * 3000}, "3003 numbers as DimSize"),
        ({"DimSize": "6 5 1_0"}, "whole numbers are needed"),
        ({"DimSize": "6000 5000 4000"}, "240 of 240000000000 bytes"),
        ({"DimSize": "6000000 5000000 4000000"}, "gives 6000000 x 5000000 x 4000000 voxels, more than any scan has"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 1e308"}, "no usable geometry: its transformmatrix"),
        ({"TransformMatrix": "0.955 0.296 0 -0.296 0.955 0 1e10 0 1"}, "sheared voxel grid"),
        ({"TransformMatrix": "1 " * 500}, "500 numbers as transformmatrix, but 9 are needed"),
        ({"Offset": "1 " * 5000}, "5000 numbers as offset, but 3 are needed"),
        ({"Offset": "1 2 x"}, "gives 1 2 x as offset, but numbers are needed"),
        ({"ElementSpacing": "1, 2, 3"}, "gives 1, 2, 3 as voxel size"),
        ({"ElementSpacing": "1 2 1e-300"}, "no usable geometry"),
        ({"ElementNumberOfChannels": "0"}, "gives 0 as ElementNumberOfChannels"),
        ({"ElementNumberOfChannels": "100000000"}, "contains 100000000 values per voxel"),
        ({"BinaryData": "No"}, "unsupported kind"),
        ({"BinaryData": "0"}, "unsupported kind"),
        ({"HeaderSize": "999999999999999999999"}, "as HeaderSize, but whole numbers"),
        ({"HeaderSize": "12"}, "gives 12 as HeaderSize and ends after"),
        ({"ElementDataFile": "x%s%s%s%n.raw 1 3 1"}, "unsupported kind"),
        ({"ElementDataFile": "LIST 2"}, "unsupported kind"),
        ({"DistanceUnits": "parsec"}, "DistanceUnits are parsec"),
    ],
)
def test_headers_that_would_crash_itk_are_refused(tmp_path, fields, words):
    path = metaimage(tmp_path / "scan.mha", **fields)
    for read in (read_scan, lambda path: open_scan(path, large=0)):
        with pytest.raises(ScanError, match=words):
            read(path)


def test_a_field_that_comes_twice_and_differently_is_refused(tmp_path):
    path = metaimage(tmp_path / "scan.mha", "DimSize = 5 6 4")
    with pytest.raises(ScanError, match="gives DimSize twice, with different values"):
        read_scan(path)


def test_a_header_without_an_end_is_refused_before_all_of_it_is_read(tmp_path):
    path = tmp_path / "scan.mha"
    path.write_bytes(b"Comment = x\n" * 200_000)
    with pytest.raises(ScanError, match="its header does not end"):
        read_scan(path)


@pytest.mark.parametrize("size", [None, "1312", "4611686018427387904", "-1", "156", "abc", "3", "0"])
def test_the_size_of_compressed_voxels_is_not_trusted(tmp_path, size):
    path = metaimage(tmp_path / "scan.mha", CompressedData="True", CompressedDataSize=size, voxels=PACKED)
    np.testing.assert_array_equal(both(path).voxels, VOXELS)
    path.write_bytes(path.read_bytes() + b"junk" * 100)
    np.testing.assert_array_equal(both(path).voxels, VOXELS)


@pytest.mark.parametrize("more", [b"\0" * 2, b"\0" * 50_000])
def test_compressed_voxels_that_are_more_than_the_header_says_are_refused(tmp_path, more):
    path = metaimage(tmp_path / "scan.mha", CompressedData="True", voxels=zlib.compress(VOXELS.tobytes() + more))
    for read in (read_scan, lambda path: open_scan(path, large=0)):
        with pytest.raises(ScanError, match="it contains more than the 240 bytes of voxels in its header"):
            read(path)


def test_a_size_that_a_stream_cannot_unpack_to_is_refused_at_once(tmp_path):
    path = metaimage(tmp_path / "scan.mha", CompressedData="True", DimSize="6000 5000 4000", voxels=PACKED)
    with pytest.raises(ScanError, match="cannot hold the 240000000000 bytes of its voxels"):
        open_scan(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    stream = zlib.compress(bytes(1 << 20)) + bytes(1_400_000)
    path = metaimage(tmp_path / "scan.mha", CompressedData="True", DimSize="1024 1024 650", voxels=stream)
    with pytest.raises(ScanError, match=r"would unpack 1\.\d+ MB to 1363 MB, which no scan does"):
        read_scan(path)


@pytest.mark.parametrize("name", ["../secret.raw", "{tmp}/secret.raw", "link.raw", "sub/../../secret.raw"])
def test_voxels_outside_of_the_folder_are_refused_unless_allowed(tmp_path, name):
    (tmp_path / "secret.raw").write_bytes(VOXELS.tobytes())
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    os.symlink(tmp_path / "secret.raw", folder / "link.raw")
    path = metaimage(folder / "scan.mhd", voxels=b"", ElementDataFile=name.format(tmp=tmp_path))
    for read in (read_scan, lambda path: open_scan(path, large=0)):
        with pytest.raises(ScanError, match=r"raw outside its own folder.* --allow-outside-files") as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)
    np.testing.assert_array_equal(read_scan(path, allow_outside_files=True).voxels, VOXELS)
    np.testing.assert_array_equal(np.asarray(open_scan(path, large=0, allow_outside_files=True).voxels), VOXELS)


def test_voxels_in_a_folder_below_are_read(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "voxels.raw").write_bytes(VOXELS.tobytes())
    path = metaimage(tmp_path / "scan.mhd", voxels=b"", ElementDataFile="sub/voxels.raw")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)


def test_the_end_of_a_voxel_file_is_read_if_the_header_says_so(tmp_path):
    (tmp_path / "voxels.raw").write_bytes(b"other header" + VOXELS.tobytes())
    path = metaimage(tmp_path / "scan.mhd", voxels=b"", ElementDataFile="voxels.raw", HeaderSize="-1")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)


@pytest.mark.parametrize("name", ["scan.mha", "scan.nii", "scan.nrrd", "scan.h5", "scan.dcm"])
def test_a_pipe_and_a_folder_with_the_name_of_a_scan_are_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for read in (read_scan, open_scan):
        with pytest.raises(ScanError, match=rf"^{name} is a pipe or a device; give a file or a folder\.$"):
            read(tmp_path / name)
    if name != "scan.dcm":
        (tmp_path / "folder" / name).mkdir(parents=True)
        with pytest.raises(ScanError, match="is a folder with the name of a file"):
            read_scan(tmp_path / "folder" / name)


def test_the_command_line_has_the_switch(tmp_path):
    (tmp_path / "secret.raw").write_bytes(VOXELS.tobytes())
    (tmp_path / "scans").mkdir()
    path = metaimage(
        tmp_path / "scans" / "scan.mhd", voxels=b"", ElementSpacing="1 1 1", ElementDataFile="../secret.raw"
    )
    scan, known = str(path), ["--task", "ct-denoise", "--modality", "CT"]
    for words in (
        ["evaluate", scan, scan, "--json"],
        ["simulate", scan, str(tmp_path / "noisy.mha"), *known, "--seed", "1"],
        ["restore", scan, str(tmp_path / "restored.mha"), *known, "--classical"],
    ):
        assert main(words) == 1
        assert main([*words, "--allow-outside-files"]) == 0
