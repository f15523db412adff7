"""Reading NIfTI, NRRD and MetaImage: right voxels in the right place, or an error in words."""

import gzip
import struct
import threading
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import Scan, position_mm
from napari_restore_rwkv.scans.writing import write_scan

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]


def rotation(degrees=(20, -35, 50)):
    a, b, c = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def image_of(voxels, direction=None):
    image = sitk.GetImageFromArray(voxels)
    if direction is not None:
        image.SetSpacing([0.75, 0.5, 3.0])
        image.SetOrigin([-120.5, 33.25, 871.0])
        image.SetDirection(direction.ravel().tolist())
    return image


def save(path, voxels, compress=False, **geometry):
    sitk.WriteImage(image_of(voxels, **geometry), str(path), useCompression=compress)
    return path


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 2000, (6, 20, 30), dtype=np.int16)


def nifti(voxels, sizes=None, datatype=4, sform=None, description=b""):
    """Return the bytes of a NIfTI-1 file, written by hand."""
    sizes = sizes or voxels.shape[::-1]
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<hh", head, 70, datatype, 8 * voxels.itemsize)
    struct.pack_into("<8f", head, 76, 1, *[1.0] * 7)
    struct.pack_into("<ff", head, 108, 352.0, 1.0)
    head[148 : 148 + len(description)] = description
    if sform is not None:
        struct.pack_into("<h", head, 254, 1)
        struct.pack_into("<12f", head, 280, *np.ravel(sform))
    head[344:348] = b"n+1\0"
    return bytes(head) + voxels.tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_oblique_geometry_is_kept(tmp_path, voxels, suffix):
    scan = read_scan(save(tmp_path / f"scan{suffix}", voxels, direction=rotation()))
    np.testing.assert_array_equal(scan.voxels, voxels)
    np.testing.assert_allclose(scan.direction, rotation(), atol=1e-6)
    np.testing.assert_allclose(scan.spacing_mm, (3.0, 0.5, 0.75), atol=1e-6)
    np.testing.assert_allclose(scan.origin_mm, (-120.5, 33.25, 871.0), atol=1e-4)
    image = image_of(voxels, rotation())
    np.testing.assert_allclose(position_mm(scan, (5, 7, 11)), image.TransformIndexToPhysicalPoint((11, 7, 5)), atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "i8", "f4", "f8"])
def test_voxel_type_is_kept(tmp_path, suffix, dtype):
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    scan = read_scan(save(tmp_path / f"scan{suffix}", voxels))
    assert scan.voxels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(scan.voxels, voxels)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_cut_off_file_is_never_read_as_zeros(tmp_path, voxels, suffix, compress, kept, capfd):
    path = save(tmp_path / f"scan{suffix}", voxels, compress)
    data = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    data.write_bytes(data.read_bytes()[: int(data.stat().st_size * kept)])
    with pytest.raises(ScanError, match=rf"^scan{suffix} cannot be read: .*(cut off|damaged).*export it again\.$"):
        read_scan(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("where", [0.5, 0.7, 0.95])
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path, voxels, suffix, where):
    path = save(tmp_path / f"scan{suffix}", voxels, compress=True)
    data = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(data.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    data.write_bytes(content)
    with pytest.raises(ScanError, match="damaged"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".dcm"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00garbage\n" * 100])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, suffix, content, capfd):
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(content)
    with pytest.raises(ScanError, match=rf"^scan{suffix} cannot be read: [^\n]*; copy or export it again\.$"):
        read_scan(path)
    assert capfd.readouterr().err == ""


def test_the_voxels_of_the_unpacked_twin_are_not_taken(tmp_path, voxels):
    """ITK issue 2243: beside p.nii, it returns the voxels of p.nii for p.nii.gz."""
    save(tmp_path / "p.nii.gz", voxels)
    save(tmp_path / "p.nii", voxels + 5)
    np.testing.assert_array_equal(read_scan(tmp_path / "p.nii.gz").voxels, voxels)
    np.testing.assert_array_equal(read_scan(tmp_path / "p.nii").voxels, voxels + 5)


def test_content_decides_whether_a_nifti_is_packed(tmp_path, voxels):
    (tmp_path / "packed.nii").write_bytes(gzip.compress(nifti(voxels)))
    (tmp_path / "plain.nii.gz").write_bytes(nifti(voxels))
    for name in ("packed.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, voxels)


@pytest.mark.parametrize("name", ["SCAN.NII.GZ", "SCAN.NII", "Scan.Mha", "scan.v2.NRRD"])
def test_capital_letters_in_the_suffix_do_not_matter(tmp_path, voxels, name):
    write_scan(Scan(voxels), tmp_path / name)
    np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, voxels)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ScanError, match=r"There is no file or folder .*nowhere\.nii; check the name"):
        read_scan(tmp_path / "nowhere.nii")


def test_an_unknown_suffix_lists_those_that_are_read(tmp_path):
    (tmp_path / "scan.tif").write_bytes(b"II*\0")
    with pytest.raises(ScanError, match=r"scan\.tif is of no kind .* \.nii, \.nii\.gz, \.nrrd, \.nhdr, \.mha, \.mhd"):
        read_scan(tmp_path / "scan.tif")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_missing_voxel_file_is_named(tmp_path, voxels, suffix):
    path = save(tmp_path / f"scan{suffix}", voxels)
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(ScanError, match=r"keeps its voxels in scan\.raw, which is missing; put it beside it"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_one_frame_of_four_dimensions_is_chosen(tmp_path, voxels, suffix):
    frames = sitk.JoinSeries([image_of(voxels + 100 * i, rotation()) for i in range(3)])
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(frames, str(path))
    with pytest.raises(ScanError, match=r"holds 3 frames \(time points\); choose one with --time-index N, from 0 to 2"):
        read_scan(path)
    with pytest.raises(ScanError, match="has no frame 3; it holds 3, numbered from 0 to 2"):
        read_scan(path, time_index=3)
    with pytest.raises(ScanError, match="has no frame -1"):
        read_scan(path, time_index=-1)
    scan = read_scan(path, time_index=2)
    np.testing.assert_array_equal(scan.voxels, voxels + 200)
    np.testing.assert_allclose(scan.direction, rotation(), atol=1e-6)
    np.testing.assert_allclose(scan.spacing_mm, (3.0, 0.5, 0.75), atol=1e-6)
    np.testing.assert_allclose(scan.origin_mm, (-120.5, 33.25, 871.0), atol=1e-4)


def test_a_three_dimensional_scan_has_frame_0_only(tmp_path, voxels):
    path = save(tmp_path / "scan.nrrd", voxels)
    np.testing.assert_array_equal(read_scan(path, time_index=0).voxels, voxels)
    with pytest.raises(ScanError, match="has no frame 1; it holds 1"):
        read_scan(path, time_index=1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_slice_becomes_a_scan_of_one_slice(tmp_path, voxels, suffix):
    scan = read_scan(save(tmp_path / f"slice{suffix}", voxels[2]))
    np.testing.assert_array_equal(scan.voxels, voxels[2:3])
    assert scan.direction.shape == (3, 3)


def test_one_dimension_is_refused(tmp_path):
    line = np.arange(4, dtype=np.int16)
    (tmp_path / "line.nii").write_bytes(nifti(line))
    (tmp_path / "line.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 1\nsizes: 4\nencoding: raw\nendian: little\n\n" + line.tobytes()
    )
    for name in ("line.nii", "line.nrrd"):
        with pytest.raises(ScanError, match="has one dimension only; give a scan"):
            read_scan(tmp_path / name)


def test_five_dimensions_are_refused(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, sizes=(30, 20, 1, 2, 3)))
    with pytest.raises(ScanError, match="holds 3 values a voxel"):
        read_scan(tmp_path / "scan.nii")


def test_an_empty_scan_is_refused(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, sizes=(30, 0, 6)))
    meta = b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 0 2\nElementType = MET_SHORT\n"
    (tmp_path / "scan.mha").write_bytes(meta + b"ElementDataFile = LOCAL\n")
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 0 2\nencoding: raw\n\n")
    for name in ("scan.nii", "scan.mha", "scan.nrrd"):
        with pytest.raises(ScanError, match=r"is empty: its header gives \d+ x 0 x \d voxels"):
            read_scan(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_several_values_a_voxel_are_refused(tmp_path, voxels, suffix):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.Compose([image_of(voxels)] * 3), str(path))
    with pytest.raises(ScanError, match="holds 3 values a voxel .*give a scan with one value a voxel"):
        read_scan(path)


def test_colour_is_refused(tmp_path):
    (tmp_path / "scan.nii").write_bytes(nifti(np.zeros((2, 3, 4, 3), np.uint8), sizes=(4, 3, 2), datatype=128))
    with pytest.raises(ScanError, match=r"is a colour \(RGB\) image"):
        read_scan(tmp_path / "scan.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_complex_numbers_are_refused(tmp_path, voxels, suffix):
    path = save(tmp_path / f"scan{suffix}", voxels.astype(np.complex64))
    with pytest.raises(ScanError, match="holds complex numbers; save its magnitude"):
        read_scan(path)


SHEAR = np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 2]])


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_a_sheared_grid_is_refused(tmp_path, voxels, suffix, capfd):
    path = tmp_path / f"scan{suffix}"
    if suffix == ".nii":
        path.write_bytes(nifti(voxels, sform=np.hstack([SHEAR, np.zeros((3, 1))])))
    elif suffix == ".nrrd":
        head = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 30 20 6\n"
        head += "space directions: (1,0,0) (0.5,1,0) (0,0,2)\nendian: little\nencoding: raw\n\n"
        path.write_bytes(head.encode() + voxels.tobytes())
    else:
        head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nTransformMatrix = 1 0 0 0.5 1 0 0 0 1\n"
        head += "DimSize = 30 20 6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        path.write_bytes(head.encode() + voxels.tobytes())
    with pytest.raises(ScanError, match="sheared voxel grid .*only orthonormal directions can be read"):
        read_scan(path)
    assert capfd.readouterr().err == ""


def test_metaimage_of_a_rare_kind_is_refused(tmp_path):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = False\nDimSize = 2 2 1\nElementType = MET_SHORT\n"
    (tmp_path / "scan.mha").write_text(head + "ElementDataFile = LOCAL\n1 2 3 4\n")
    with pytest.raises(ScanError, match="MetaImage of a rare kind"):
        read_scan(tmp_path / "scan.mha")


def test_metaimage_with_a_header_before_its_raw_voxels_is_read(tmp_path, voxels):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nHeaderSize = 100\nDimSize = 30 20 6\n"
    (tmp_path / "scan.mhd").write_text(head + "ElementType = MET_SHORT\nElementDataFile = scan.bin\n")
    (tmp_path / "scan.bin").write_bytes(bytes(100) + voxels.tobytes())
    np.testing.assert_array_equal(read_scan(tmp_path / "scan.mhd").voxels, voxels)
    (tmp_path / "scan.bin").write_bytes(voxels.tobytes())
    with pytest.raises(ScanError, match="7100 of 7200 bytes of voxels"):
        read_scan(tmp_path / "scan.mhd")


def test_metaimage_with_too_few_compressed_voxels_is_refused(tmp_path, voxels):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = 30 20 7\n"
    head += "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "scan.mha").write_bytes(head.encode() + zlib.compress(voxels.tobytes()))
    with pytest.raises(ScanError, match="7200 of 8400 bytes of voxels"):
        read_scan(tmp_path / "scan.mha")


@pytest.mark.parametrize(
    ("description", "modality", "unit"),
    [
        (b"modality PET, unit SUV", "PET", "SUV"),
        (b"CT thorax", "CT", "HU"),
        (b"TE=2.9;Time=101500.1", "MR", ""),
        (b"FSL5.0", None, ""),
        (b"CTX thickness", None, ""),
    ],
)
def test_the_description_of_a_nifti_tells_the_modality(tmp_path, description, modality, unit):
    (tmp_path / "scan.nii").write_bytes(nifti(np.ones((2, 3, 4), np.int16), description=description))
    scan = read_scan(tmp_path / "scan.nii")
    assert (scan.modality, scan.unit) == (modality, unit)
    if modality:
        assert scan.metadata["modality_reason"] == f"the file says modality {modality}"


def test_the_modality_of_a_metaimage_is_read(tmp_path, voxels):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nModality = MET_MOD_MR\nDimSize = 30 20 6\n"
    (tmp_path / "scan.mha").write_bytes(
        (head + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n").encode() + voxels.tobytes()
    )
    assert read_scan(tmp_path / "scan.mha").modality == "MR"


def test_values_as_in_hu_are_taken_for_ct(tmp_path, voxels):
    scan = read_scan(save(tmp_path / "scan.nii.gz", np.clip(voxels, -1000, None)))
    assert (scan.modality, scan.unit) == ("CT", "HU")
    reach = f"from {voxels.min()} to {voxels.max()}"
    assert scan.metadata["modality_reason"] == f"the values reach {reach}, as in HU"


@pytest.mark.parametrize(
    "values",
    [
        np.arange(0, 4000),
        np.arange(-4096, 4096),
        np.linspace(-900.5, 900.3, 999),
        np.full(10, np.nan),
        np.full(10, -1000),
    ],
    ids=["positive", "phase", "not whole", "nan", "air only"],
)
def test_other_values_leave_the_modality_open(tmp_path, values):
    kind = np.int16 if values.dtype.kind == "i" else np.float32
    scan = read_scan(save(tmp_path / "scan.nrrd", values.reshape(1, 1, -1).astype(kind)))
    assert (scan.modality, scan.unit) == (None, "")
    assert scan.metadata["modality_reason"].startswith("the file does not say")


@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("MR", ""), ("PET", "")])
def test_a_given_modality_wins(tmp_path, voxels, modality, unit):
    scan = read_scan(save(tmp_path / "scan.mha", abs(voxels)), modality=modality)
    assert (scan.modality, scan.unit) == (modality, unit)
    assert scan.metadata["modality_reason"] == f"{modality} was given"


def test_an_unknown_modality_lists_the_known_ones(tmp_path, voxels):
    with pytest.raises(ScanError, match='no modality "US"; choose one of CT, MR, PET'):
        read_scan(save(tmp_path / "scan.mha", voxels), modality="US")


def test_no_folder_name_gets_into_the_metadata(tmp_path, voxels):
    folder = tmp_path / "Jane Doe 1970"
    folder.mkdir()
    scan = read_scan(save(folder / "scan.mha", voxels))
    assert set(scan.metadata) == {"source", "modality_reason"}
    assert scan.metadata["source"] == "scan.mha"


def test_a_file_without_read_permission_is_named(tmp_path, voxels, monkeypatch):
    path = save(tmp_path / "scan.mha", voxels)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("napari_restore_rwkv.scans.files.is_dicom", forbidden)
    with pytest.raises(ScanError, match=r"scan\.mha may not be read; ask for read permission"):
        read_scan(path)


def test_a_full_temporary_folder_is_an_error_in_words(tmp_path, voxels, monkeypatch):
    path = save(tmp_path / "scan.nii.gz", voxels)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(ScanError, match=r"scan\.nii\.gz cannot be read: No space left on device"):
        read_scan(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nan_and_infinity_are_read_as_they_are(tmp_path, suffix):
    """ITK's NIfTI reader turns them into zeros."""
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1.5, 2], np.float32).reshape(1, 2, 3)
    assert read_scan(save(tmp_path / f"scan{suffix}", values)).voxels.tobytes() == values.tobytes()


@pytest.mark.parametrize("kind", ["i2", "f4", "f8"])
def test_the_scale_of_a_nifti_is_applied(tmp_path, kind):
    stored = np.arange(24).reshape(2, 3, 4).astype(kind)
    content = bytearray(nifti(stored, datatype={"i2": 4, "f4": 16, "f8": 64}[kind]))
    for slope, intercept, expected in ((0.5, -3.0, stored * 0.5 - 3), (0.0, 7.0, stored), (np.nan, 0.0, stored)):
        struct.pack_into("<ff", content, 112, slope, intercept)
        (tmp_path / "scan.nii").write_bytes(content)
        np.testing.assert_array_equal(read_scan(tmp_path / "scan.nii").voxels, expected)


def test_a_big_endian_nifti_2_is_read(tmp_path, voxels):
    head = bytearray(544)
    struct.pack_into(">i", head, 0, 540)
    head[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into(">hh", head, 12, 4, 16)
    struct.pack_into(">8q", head, 16, 3, 30, 20, 6, 1, 1, 1, 1)
    struct.pack_into(">8d", head, 104, 1, 0.5, 0.75, 3, 1, 1, 1, 1)
    struct.pack_into(">q2d", head, 168, 544, 1.0, 0.0)
    (tmp_path / "scan.nii").write_bytes(bytes(head) + voxels.astype(">i2").tobytes())
    scan = read_scan(tmp_path / "scan.nii")
    np.testing.assert_array_equal(scan.voxels, voxels)
    assert scan.voxels.dtype == np.int16
    np.testing.assert_allclose(scan.spacing_mm, (3, 0.75, 0.5))


def test_a_nifti_voxel_type_without_a_reader_is_named(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, datatype=1536))
    with pytest.raises(ScanError, match=r"voxel type that is not known \(1536\)"):
        read_scan(tmp_path / "scan.nii")


def test_several_threads_read_at_once(tmp_path, voxels, capfd):
    paths = [save(tmp_path / f"scan{i}.mha", voxels + i) for i in range(8)]
    right = []

    def read(i):
        right.append(np.array_equal(read_scan(paths[i]).voxels, voxels + i))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 8
    print("still heard", file=__import__("sys").stderr)
    assert "still heard" in capfd.readouterr().err
