"""TIFF stacks, written by tifffile and imageio and read by scikit-image beside ours."""

import struct
import zlib

import imageio.v3 as iio
import numpy as np
import pytest
import skimage.io
import tifffile
from PIL import Image

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.volume.files import SeveralFramesError

IMAGEJ = {"imagej": True, "resolution": (1 / 0.7, 1 / 0.9)}


@pytest.fixture
def stack(rng):
    return rng.integers(0, 60_000, (5, 24, 40), dtype=np.uint16)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "stack.tif"


def both(path, **options):
    """Read a file as a whole, and slice by slice, which has to come to the same."""
    eager, lazy = read_scan(path, **options), open_scan(path, large=0, **options)
    assert not isinstance(lazy.voxels, np.ndarray)
    np.testing.assert_array_equal(eager.voxels, lazy.voxels, strict=True)
    np.testing.assert_array_equal(eager.voxels[1:3, 4:9, 2:30:3], lazy.voxels[1:3, 4:9, 2:30:3])
    return eager


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "u4", "i4", "f2", "<f4", ">f4", "f8"])
@pytest.mark.parametrize(
    "packing",
    [
        {},
        {"bigtiff": True},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib", "tile": (16, 16)},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
        {"compression": "packbits"},
    ],
)
def test_pages_are_read_as_scikit_image_reads_them(file, stack, dtype, packing):
    kind = np.dtype(dtype)
    # Its own writer has no predictor for numbers of 16 bits with a point.
    packing = packing | ({"predictor": False} if dtype == "f2" and "predictor" in packing else {})
    tifffile.imwrite(file, (stack % 120).astype(kind), byteorder=kind.byteorder.strip("|=") or None, **packing)
    scan = both(file)
    np.testing.assert_array_equal(scan.voxels, skimage.io.imread(file))
    assert scan.voxels.dtype == (np.float32 if dtype == "f2" else kind.newbyteorder("="))
    assert scan.spacing_mm == (1.0, 1.0, 1.0)
    [note] = scan.metadata["notes"]
    assert "neither the size of its voxels nor their position in the patient" in note
    assert scan.modality is None


def test_files_written_by_pillow_are_read(file, stack):
    first, *others = [Image.fromarray(page) for page in stack.astype(np.uint8)]
    first.save(file, save_all=True, append_images=others, compression="tiff_lzw")
    np.testing.assert_array_equal(both(file).voxels, iio.imread(file, plugin="pillow", index=...))


def test_voxel_sizes_that_imagej_wrote_are_used(file, stack):
    tifffile.imwrite(file, stack, **IMAGEJ, metadata={"spacing": 2.5, "unit": "mm", "axes": "ZYX"})
    scan = both(file)
    np.testing.assert_allclose(scan.spacing_mm, (2.5, 0.9, 0.7), rtol=1e-6)
    assert scan.metadata["notes"] == [
        "A TIFF file does not state its position in the patient; position 0 and the axes of the patient are assumed. "
        "Its voxels are 2.5 x 0.9 x 0.7 mm (z, y, x) according to ImageJ."
    ]


@pytest.mark.parametrize(("unit", "factor"), [("cm", 10.0), ("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3)])
def test_units_of_imagej(file, stack, unit, factor):
    tifffile.imwrite(file, stack, **IMAGEJ, metadata={"spacing": 2.5, "unit": unit, "axes": "ZYX"})
    np.testing.assert_allclose(both(file).spacing_mm, np.array([2.5, 0.9, 0.7]) * factor, rtol=1e-6)


def test_axes_of_imagej_may_have_units_of_their_own(file, stack):
    units = {"unit": "mm", "yunit": "cm", "zunit": "um"}
    tifffile.imwrite(file, stack, **IMAGEJ, metadata={"spacing": 2500.0, **units, "axes": "ZYX"})
    np.testing.assert_allclose(both(file).spacing_mm, (2.5, 9.0, 0.7), rtol=1e-6)


@pytest.mark.parametrize("unit", ["pixel", "", "parsec"])
def test_an_unknown_unit_gives_no_voxel_size(file, stack, unit):
    tifffile.imwrite(file, stack, **IMAGEJ, metadata={"spacing": 2.5, "unit": unit, "axes": "ZYX"})
    assert both(file).spacing_mm == (1.0, 1.0, 1.0)


def test_signed_numbers_of_imagej_are_signed_again(file, stack):
    """It keeps CT numbers as unsigned ones, and a line that leads back to them."""
    tifffile.imwrite(file, stack, description=described(5, "cf=0", "c0=-32768.0", "c1=1.0"), metadata=None)
    scan = both(file)
    np.testing.assert_array_equal(scan.voxels, (stack.astype(np.int32) - 32768).astype(np.int16), strict=True)


def test_calibration_lines_of_imagej_scale_values(file, stack):
    tifffile.imwrite(file, stack, description=described(5, "cf=0", "c0=-10.5", "c1=0.5"), metadata=None)
    np.testing.assert_array_equal(both(file).voxels, (stack * 0.5 - 10.5).astype(np.float32), strict=True)


def test_a_calibration_curve_of_imagej_is_refused(file, stack):
    tifffile.imwrite(file, stack, description=described(5, "cf=3", "c0=1", "c1=2"), metadata=None)
    with pytest.raises(ScanError, match="has a calibration function"):
        read_scan(file)


def described(images, *more):
    return "\n".join(["ImageJ=1.54f", f"images={images}", f"slices={images}", *more, ""])


@pytest.mark.parametrize("axes", ["TZYX", "ZCYX", "TZCYX"])
@pytest.mark.parametrize("how", ["imagej", "ome", "shaped"])
def test_times_and_channels_are_frames(file, rng, axes, how):
    shape = {"T": 3, "Z": 5, "C": 2, "Y": 24, "X": 40}
    written = rng.integers(0, 99, [shape[axis] for axis in axes], dtype=np.uint8)
    name = file.with_suffix(".ome.tif") if how == "ome" else file
    tifffile.imwrite(name, written, imagej=how == "imagej", metadata={"axes": axes}, photometric="minisblack")
    frames = np.moveaxis(written, axes.index("Z"), -3).reshape(-1, 5, 24, 40)
    with pytest.raises(SeveralFramesError, match=f"contains {len(frames)} frames"):
        read_scan(name)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(both(name, time_index=number).voxels, frame)


def test_a_single_stack_axis_is_that_of_the_slices(file, stack):
    """Programs that write an array without names call its first axis channels, or time."""
    tifffile.imwrite(file, stack, imagej=True)
    assert "channels=5" in tifffile.tiffcomment(file)
    np.testing.assert_array_equal(both(file).voxels, stack)
    tifffile.imwrite(file, stack, imagej=True, metadata={"axes": "TYX"})
    assert "frames=5" in tifffile.tiffcomment(file)
    np.testing.assert_array_equal(both(file).voxels, stack)


def test_voxel_sizes_of_ome_are_used(tmp_path, stack):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 700, "PhysicalSizeY": 0.9, "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 2500.0}
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX", **sizes})
    np.testing.assert_allclose(both(path).spacing_mm, (2.5, 0.9, 0.7))


def test_a_large_stack_of_imagej_lists_one_page_only(file, stack):
    tifffile.imwrite(file, stack[0], description=described(5), metadata=None, byteorder="<")
    with file.open("ab") as stream:
        stream.write(stack[1:].tobytes())
    with tifffile.TiffFile(file) as written:
        start = written.pages[0].dataoffsets[0]
    # The first page's values have to lie at the end, as in a file of ImageJ.
    content = file.read_bytes()
    assert content[start : start + stack[0].nbytes] == stack[0].tobytes()
    assert start + stack.nbytes == len(content)
    np.testing.assert_array_equal(both(file).voxels, stack)
    file.write_bytes(content[:-1])
    with pytest.raises(ScanError, match="is cut off"):
        read_scan(file)


def test_a_file_that_is_cut_off_anywhere_is_refused(file, stack):
    tifffile.imwrite(file, stack, compression="zlib")
    content = file.read_bytes()
    for size in np.linspace(0, len(content) - 1, 60).astype(int):
        file.write_bytes(content[:size])
        with pytest.raises(ScanError, match=r"cut off|damaged|empty"):
            read_scan(file)


def test_pages_in_a_circle_are_refused(file, stack):
    tifffile.imwrite(file, stack, byteorder="<", metadata=None)
    content = bytearray(file.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    file.write_bytes(content)
    with pytest.raises(ScanError, match="the chain of its pages never ends"):
        read_scan(file)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(file):
    """A page promises little, and its strip unpacks to far more."""
    tifffile.imwrite(file, np.zeros((5, 64, 64), np.uint8), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(file) as written:
        page = written.pages[0]
        tag = page.tags["StripOffsets"], page.tags["StripByteCounts"]
    packed = zlib.compress(bytes(30 << 20))
    content = bytearray(file.read_bytes())
    for one, value in zip(tag, (len(content), len(packed)), strict=True):
        # A single value stands in its tag, behind 8 bytes; its type becomes that of long ones.
        struct.pack_into("<H", content, one.offset + 2, 4)
        struct.pack_into("<I", content, one.offset + 8, value)
    file.write_bytes(bytes(content) + packed)
    with pytest.raises(ScanError, match="compressed pixels are damaged"):
        read_scan(file)


def test_a_huge_page_in_a_small_file_is_refused(file):
    tifffile.imwrite(file, np.zeros((64, 64), np.uint8), compression="zlib", metadata=None)
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as written:
        tags = written.pages[0].tags
        places = [tags[name].offset + 8 for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
        kinds = [tags[name].dtype for name in ("ImageWidth", "ImageLength", "RowsPerStrip")]
    for place, kind in zip(places, kinds, strict=True):
        struct.pack_into("<H" if kind == 3 else "<I", content, place, 60_000)
    file.write_bytes(content)
    for read in (read_scan, open_scan):
        with pytest.raises(ScanError, match=r"would unpack .* which no scan does|does not fit into memory"):
            read(file)


def test_more_pages_than_any_stack_has_are_not_made_up(file):
    """By one number in its text a file of small pages would become millions of them."""
    tifffile.imwrite(file, np.zeros((1, 1), np.uint8), description=described(200_000), metadata=None)
    with file.open("ab") as stream:
        stream.write(bytes(300_000))
    with pytest.raises(ScanError, match="is cut off"):
        read_scan(file)


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (np.zeros((5, 24, 40, 3), np.uint8), {"photometric": "rgb"}, "is a colour"),
        (np.zeros((5, 24, 40), np.complex64), {}, "contains complex numbers"),
        (np.zeros((5, 24, 40), bool), {}, "packs its values into 1 bits"),
        (np.zeros((5, 24, 40), np.uint8), {"compression": "zstd"}, "uses an unsupported compression"),
        (
            np.zeros((5, 24, 40, 2), np.uint8),
            {"planarconfig": "contig", "photometric": 1},
            "contains 2 values per voxel",
        ),
    ],
)
def test_a_stack_without_real_values_is_refused(file, image, options, words):
    tifffile.imwrite(file, image, **options)
    with pytest.raises(ScanError, match=words):
        read_scan(file)


def test_pages_of_several_sizes_are_refused(file, stack):
    with tifffile.TiffWriter(file) as writer:
        writer.write(stack)
        writer.write(stack[:, ::2, ::2])
    with pytest.raises(ScanError, match="pages of several sizes"):
        read_scan(file)


def test_a_description_of_other_pages_is_refused(file, stack):
    tifffile.imwrite(file, stack, description="ImageJ=1.5\nimages=5\nslices=3\n", metadata=None)
    with pytest.raises(ScanError, match=r"contains 5 pages, but its description says 1 x 3 x 1 \(TZC\)"):
        read_scan(file)


@pytest.mark.parametrize("axes", ["YXZ", "ZXY"])
def test_pages_that_are_not_slices_in_rows_are_refused(file, stack, axes):
    turned = stack.transpose(["ZYX".index(axis) for axis in axes])
    tifffile.imwrite(file, turned, photometric="minisblack", metadata={"axes": axes})
    with pytest.raises(ScanError, match=f"has the axes {axes}; save it with Y and X last"):
        read_scan(file)


def test_mirrored_pages_are_refused(file, stack):
    tifffile.imwrite(file, stack, photometric="minisblack", metadata=None, extratags=[(274, 3, 1, 4, False)])
    with pytest.raises(ScanError, match=r"mirrored or turned \(TIFF orientation 4\)"):
        read_scan(file)


@pytest.mark.parametrize("compression", [None, "packbits"])
def test_a_predictor_that_only_some_programs_obey_is_refused(file, stack, compression):
    tags = [(316, 3, 1, 2, False)]
    tifffile.imwrite(file, stack, photometric="minisblack", metadata=None, compression=compression, extratags=tags)
    content = file.read_bytes()
    # 317 is the predictor, which tifffile leaves out here.
    file.write_bytes(content.replace(struct.pack("<HHI", 316, 3, 1), struct.pack("<HHI", 317, 3, 1)))
    with pytest.raises(ScanError, match=r"predictor \(TIFF number 2\) without a compression that uses one"):
        read_scan(file)


def test_entities_in_ome_xml_are_refused(file, stack):
    text = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><OME>&b;</OME>'
    tifffile.imwrite(file, stack, description=text, metadata=None)
    with pytest.raises(ScanError, match="defines entities"):
        read_scan(file)


def test_another_file_that_ome_names_is_not_read(tmp_path, stack):
    """Planes may be spread over files; one scan is one file here."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX"})
    text = tifffile.tiffcomment(path).replace('SizeZ="5"', 'SizeZ="6"')
    tifffile.tiffcomment(path, text.encode())
    with pytest.raises(ScanError, match="contains 5 pages, but its description says"):
        read_scan(path)


def _pages(file, pages, tags, shared):
    """Write pages whose tags say `count` values at the start of the file, with bytes of their own before them."""
    content = bytearray(b"II*\0" + struct.pack("<I", 8 + len(shared)) + shared)
    for left in reversed(range(pages)):
        body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        content += body + struct.pack("<I", len(content) + len(body) + 4 if left else 0)
    file.write_bytes(content)


def test_pages_that_share_large_values_are_refused_before_each_reads_them(file):
    """Each of a few thousand pages would keep its own copy of the 4 MB."""
    size = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (262, 3, 1, 1)]
    for tag in ((270, 2, 4 << 20, 8), (273, 4, 1 << 20, 8), (279, 16, 1 << 19, 8)):
        _pages(file, 3000, [*size, tag], bytes(4 << 20))
        with pytest.raises(ScanError, match=r"the tags of its pages refer to \d+ bytes, more than the file has"):
            read_scan(file)


def test_more_pages_than_any_scan_has_are_refused(file):
    _pages(file, (1 << 14) + 1, [(256, 4, 1, 64), (257, 4, 1, 64)], b"")
    with pytest.raises(ScanError, match="contains more than 16384 pages; split the stack"):
        read_scan(file)
