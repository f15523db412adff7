"""NRRD headers: what ITK makes of a good one, units that ITK does not know, and a sentence for the rest."""

import bz2
import gzip
import os

import numpy as np
import pytest
import SimpleITK as sitk
from test_metaimage import both
from text_files import VOXELS, nrrd

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan

DIRECTIONS = "space directions: (0,2,0) (0,0,3) (2.5,0,0)"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["spacings: 1 2 3"],
        ["spacings: 2 2 2", "axis mins: 1 1 1"],
        ["spacings: 2 2 2", "axis mins: 1 1 1", "centers: cell cell cell"],
        ["spacings: 2 2 2", "axis mins: 1 1 1", "centerings: node node node"],
        ["space: left-posterior-superior", DIRECTIONS, "space origin: (1,2,3)"],
        ["space: RAS", DIRECTIONS, "space origin: (1,2,3)"],
        ["space: left-anterior-superior", DIRECTIONS, "space origin: (1,2,3)"],
        ["space: scanner-xyz", DIRECTIONS, "space origin: (1,2,3)"],
        ["space dimension: 3", DIRECTIONS, "space origin: (1,2,3)"],
        ["space: LPS", "space directions: (-2,0,0) (0,2,0) (0,0,3)", "# a comment: here"],
        ["thicknesses: 1 1 1", 'labels: "x" "y" "z"', "kinds: domain domain domain", "content: M\xfcller"],
    ],
)
def test_a_valid_header_is_read_as_itk_reads_it(tmp_path, lines):
    path = nrrd(tmp_path / "scan.nrrd", *lines)
    scan = both(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(scan.voxels, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(scan.spacing_mm[::-1], image.GetSpacing(), rtol=1e-12)
    np.testing.assert_allclose(scan.origin_mm, image.GetOrigin(), rtol=1e-12)
    np.testing.assert_allclose(scan.direction.ravel(), image.GetDirection(), rtol=1e-12)


@pytest.mark.parametrize("unit", ["microns", "um", "\xb5m", "micrometers"])
def test_units_of_space_are_honoured(tmp_path, unit):
    lines = [f'space units: "{unit}" "{unit}" "{unit}"', "space directions: (800,0,0) (0,700,0) (0,0,2000)"]
    path = nrrd(tmp_path / "scan.nrrd", "space: LPS", *lines, "space origin: (1000,0,-5000)")
    scan = both(path)
    assert scan.spacing_mm == pytest.approx((2.0, 0.7, 0.8))
    assert scan.origin_mm == pytest.approx((1.0, 0.0, -5.0))


def test_units_of_axes_without_space_are_honoured(tmp_path):
    path = nrrd(tmp_path / "scan.nrrd", "spacings: 1 2 3", 'units: "mm" "cm" "um"')
    assert both(path).spacing_mm == pytest.approx((0.003, 20.0, 1.0))


def test_a_key_of_the_writer_tells_the_modality(tmp_path):
    scan = both(nrrd(tmp_path / "scan.nrrd", "Modality:=CT", "sizes:=9 9 9"))
    assert (scan.modality, scan.unit) == ("CT", "HU")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("gz", gzip.compress), ("bzip2", bz2.compress)]
)
def test_compressed_voxels_are_the_same(tmp_path, encoding, pack):
    path = nrrd(tmp_path / "scan.nrrd", encoding=encoding, voxels=pack(VOXELS.tobytes()))
    np.testing.assert_array_equal(both(path).voxels, VOXELS)
    content = bytearray(path.read_bytes())
    content[-20] ^= 8
    path.write_bytes(content)
    with pytest.raises(ScanError, match="damaged"):
        read_scan(path)
    path.write_bytes(content[:-30])
    with pytest.raises(ScanError, match=r"cut off|damaged"):
        read_scan(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    stream = bz2.compress(bytes(1 << 20)) * 1300
    path = nrrd(tmp_path / "scan.nrrd", encoding="bzip2", sizes="1024 1024 650", voxels=stream)
    with pytest.raises(ScanError, match=r"would unpack 0\.\d+ MB to 1363 MB, which no scan does"):
        read_scan(path)


def test_a_frame_axis_that_comes_first_is_split(tmp_path):
    # As 3-D Slicer keeps its sequences.
    frames = np.stack([VOXELS, VOXELS + 7, VOXELS - 9], axis=-1)
    lines = ["kinds: list domain domain domain", "space: LPS", "space directions: none (1,0,0) (0,1,0) (0,0,2)"]
    path = nrrd(tmp_path / "scan.seq.nrrd", *lines, dimension="4", sizes="3 6 5 4", voxels=frames.tobytes())
    with pytest.raises(ScanError, match="contains 3 frames"):
        read_scan(path)
    for index in range(3):
        eager, lazy = (
            read(path, time_index=index) for read in (read_scan, lambda *a, **o: open_scan(*a, large=0, **o))
        )
        np.testing.assert_array_equal(eager.voxels, frames[..., index])
        np.testing.assert_array_equal(np.asarray(lazy.voxels), frames[..., index])
        assert eager.spacing_mm == lazy.spacing_mm == (2, 1, 1)


@pytest.mark.parametrize("text", ["LIST\n{}", "part%02d.raw 1 4 1", "part%02d.raw 1 4 1 2"])
def test_slices_in_separate_files_are_combined(tmp_path, text):
    for number, image in enumerate(VOXELS, 1):
        (tmp_path / f"part{number:02}.raw").write_bytes(image.tobytes())
    names = "\n".join(f"part{number:02}.raw" for number in range(1, 5))
    path = nrrd(tmp_path / "scan.nhdr", "data file: " + text.format(names), voxels=b"")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)
    (tmp_path / "part03.raw").unlink()
    with pytest.raises(ScanError, match=r"keeps its voxels in part03\.raw, which is missing"):
        read_scan(path)


def test_each_of_several_files_holds_its_own_slice(tmp_path):
    for number, image in enumerate(VOXELS):
        (tmp_path / f"part{number}.raw").write_bytes(image.tobytes() + b"tail")
    path = nrrd(tmp_path / "scan.nhdr", "data file: part%d.raw 0 3 1", voxels=b"")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), VOXELS)
    (tmp_path / "part1.raw").write_bytes(VOXELS[1].tobytes()[:-2])
    with pytest.raises(ScanError, match=r"part1\.raw is cut off|part1\.raw cannot be read"):
        read_scan(path)


def test_the_word_list_in_other_lines_does_not_begin_the_list(tmp_path):
    names = [f"part{number}.raw" for number in range(4)]
    for name, image in zip(names, VOXELS, strict=True):
        (tmp_path / name).write_bytes(image.tobytes())
    lines = ["# slices: LIST", "content: LIST", "data file: LIST", *names]
    path = nrrd(tmp_path / "scan.nhdr", *lines, voxels=b"")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)


def test_lines_and_bytes_before_the_voxels_are_skipped(tmp_path):
    (tmp_path / "other.dat").write_bytes(b"one\ntwo\nxyz" + VOXELS.tobytes())
    path = nrrd(tmp_path / "scan.nhdr", "data file: other.dat", "line skip: 2", "byte skip: 3", voxels=b"")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)
    path = nrrd(tmp_path / "scan.nhdr", "data file: other.dat", "byte skip: -1", voxels=b"")
    np.testing.assert_array_equal(both(path).voxels, VOXELS)


@pytest.mark.parametrize(
    ("lines", "fields", "words"),
    [
        (["data file: x%0999999999d.raw 1 2 1"], {}, 'its "data file" is not a pattern with one number'),
        (["data file: x%s%n.raw 1 2 1"], {}, 'its "data file" is not a pattern'),
        (["data file: x%03d.raw 1 999999999 1"], {}, "its data files from 1 to 999999999 in steps of 1 do not exist"),
        (["data file: ../x.raw"], {}, "outside its own folder"),
        (["data file: /etc/passwd"], {}, "refers to passwd outside its own folder"),
        (["data file: a\0b.raw"], {}, r"keeps its voxels in a\?b\.raw, which is missing"),
        (["space: LPS", "space directions: (1,0,0) (0,1,0)"], {}, "its space direction is"),
        (
            ["space: LPS", "space directions: (1,0) (0,1,0) (0,0,1)"],
            {},
            "2 numbers as space direction, but 3",
        ),
        (["space: LPS", "space directions: (1e300,0,0) (0,1,0) (0,0,1)"], {}, "no usable geometry"),
        (["space: middle-earth"], {}, "its space is middle-earth"),
        (["space: LPS", "spacings: 1 1 1"], {}, "gives spacings without directions"),
        (["space: LPS", 'space units: "pc" "pc" "pc"'], {}, "gives lengths in pc, an unknown unit"),
        (["byte skip: -7"], {}, "0 as line skip and -7 as byte skip"),
        (["line skip: 100000000"], {}, "it has fewer lines than the 100000000"),
        ([], {"dimension": "4"}, "gives 4 as dimension and 3 sizes"),
        ([], {"dimension": "x"}, "whole numbers are needed"),
        ([], {"sizes": "6 5 40000"}, "cut off"),
        ([], {"encoding": "gzip", "sizes": "6000 5000 4000"}, "cannot hold"),
        ([], {"type": "block"}, r"an unknown voxel type \(block\)"),
        ([], {"endian": None}, "does not give the byte order"),
        ([], {"encoding": "ascii"}, "in the encoding ascii; save it with one of raw, gzip"),
        (["kinds: 3-color domain domain"], {"sizes": "3 10 4"}, "contains 3 values per voxel"),
        (["kinds: complex domain domain"], {"sizes": "2 15 4"}, "contains complex numbers"),
        (["kinds: domain domain"], {}, "gives 2 kinds, but 3 are needed"),
        (
            ["kinds: domain list domain domain"],
            {"sizes": "3 2 5 4", "dimension": "4"},
            "frame axis between the spatial axes",
        ),
        (["sizes: 5 6 4"], {}, "gives sizes twice, with different values"),
    ],
)
def test_an_impossible_header_is_refused_with_a_message(tmp_path, lines, fields, words):
    path = nrrd(tmp_path / "scan.nrrd", *lines, **fields)
    for read in (read_scan, lambda path: open_scan(path, large=0)):
        with pytest.raises(ScanError, match=words) as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)


def test_a_named_pipe_beside_the_header_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "voxels.raw")
    path = nrrd(tmp_path / "scan.nhdr", "data file: voxels.raw", voxels=b"")
    with pytest.raises(ScanError, match="which is missing"):
        read_scan(path)
