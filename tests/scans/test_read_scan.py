"""Reading NIfTI, NRRD and MetaImage: right voxels in the right place, or an error in words."""

import dataclasses
import sys
import threading
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from handmade import SUFFIXES, image_of, nifti, rotation, save

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.options import OpenKeywords, OpenOptions
from napari_restore_rwkv.scans.scan import Scan, position_mm
from napari_restore_rwkv.scans.writing import write_scan


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_oblique_geometry_is_kept(tmp_path, voxels, suffix):
    scan = read_scan(save(tmp_path / f"scan{suffix}", voxels, direction=rotation()))
    np.testing.assert_array_equal(scan.voxels, voxels)
    np.testing.assert_allclose(scan.direction, rotation(), atol=1e-6)
    np.testing.assert_allclose(scan.spacing_mm, (3.0, 0.5, 0.75), atol=1e-6)
    np.testing.assert_allclose(scan.origin_mm, (-120.5, 33.25, 871.0), atol=1e-4)
    image = image_of(voxels, rotation())
    np.testing.assert_allclose(
        position_mm(scan, (5, 7, 11)), image.TransformIndexToPhysicalPoint((11, 7, 5)), atol=1e-3
    )


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


@pytest.mark.parametrize("name", ["SCAN.NII.GZ", "SCAN.NII", "Scan.Mha", "scan.v2.NRRD"])
def test_capital_letters_in_the_suffix_do_not_matter(tmp_path, voxels, name):
    write_scan(Scan(voxels), tmp_path / name)
    np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, voxels)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ScanError, match=r"There is no file or folder .*nowhere\.nii; check the name"):
        read_scan(tmp_path / "nowhere.nii")


def test_an_unknown_suffix_lists_those_that_are_read(tmp_path):
    (tmp_path / "scan.png").write_bytes(b"\x89PNG")
    with pytest.raises(
        ScanError,
        match=r"scan\.png has an unsupported file type; .* \.nii, \.nii\.gz, \.hdr, \.nrrd, \.nhdr, \.mha, \.mhd",
    ):
        read_scan(tmp_path / "scan.png")


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_missing_voxel_file_is_named(tmp_path, voxels, suffix):
    path = save(tmp_path / f"scan{suffix}", voxels)
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(ScanError, match=r"keeps its voxels in scan\.raw, which is missing; put that file beside it"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_one_frame_of_four_dimensions_is_chosen(tmp_path, voxels, suffix):
    frames = sitk.JoinSeries([image_of(voxels + 100 * i, rotation()) for i in range(3)])
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(frames, str(path))
    with pytest.raises(
        ScanError, match=r"contains 3 frames \(time points\); choose one by its time index, from 0 to 2"
    ):
        read_scan(path)
    with pytest.raises(ScanError, match="has no frame 3; it has 3, numbered from 0 to 2"):
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
    with pytest.raises(ScanError, match="has no frame 1; it has 1"):
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
        with pytest.raises(ScanError, match="has only one dimension; give a scan"):
            read_scan(tmp_path / name)


def test_an_empty_scan_is_refused(tmp_path, voxels):
    (tmp_path / "scan.nii").write_bytes(nifti(voxels, sizes=(30, 0, 6)))
    meta = b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 0 2\nElementType = MET_SHORT\n"
    (tmp_path / "scan.mha").write_bytes(meta + b"ElementDataFile = LOCAL\n")
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 0 2\nencoding: raw\n\n")
    for name in ("scan.nii", "scan.mha", "scan.nrrd"):
        with pytest.raises(ScanError, match=r"is empty: its header gives \d+ x 0 x \d voxels"):
            read_scan(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_several_values_per_voxel_are_refused(tmp_path, voxels, suffix):
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.Compose([image_of(voxels)] * 3), str(path))
    with pytest.raises(ScanError, match=r"contains 3 values per voxel .*give a scan with one value per voxel"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_complex_numbers_are_refused(tmp_path, voxels, suffix):
    path = save(tmp_path / f"scan{suffix}", voxels.astype(np.complex64))
    with pytest.raises(ScanError, match="contains complex numbers; save its magnitude"):
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
    with pytest.raises(ScanError, match=r"sheared voxel grid .*only orthonormal directions can be read"):
        read_scan(path)
    assert capfd.readouterr().err == ""


def test_metaimage_of_a_rare_kind_is_refused(tmp_path):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = False\nDimSize = 2 2 1\nElementType = MET_SHORT\n"
    (tmp_path / "scan.mha").write_text(head + "ElementDataFile = LOCAL\n1 2 3 4\n")
    with pytest.raises(ScanError, match="an unsupported kind of MetaImage"):
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

    monkeypatch.setattr("napari_restore_rwkv.scans.whole.is_dicom", forbidden)
    with pytest.raises(ScanError, match=r"scan\.mha cannot be read: permission denied; ask for read permission"):
        read_scan(path)


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
    print("still heard", file=sys.stderr)
    assert "still heard" in capfd.readouterr().err


def test_loading_a_lazy_scan_reads_it(tmp_path, voxels):
    path = save(tmp_path / "scan.mha", voxels)
    lazy, loaded = open_scan(path, large=0), open_scan(path, large=0).load()
    assert not isinstance(lazy.voxels, np.ndarray)
    assert isinstance(loaded.voxels, np.ndarray)
    np.testing.assert_array_equal(loaded.voxels, read_scan(path).voxels)
    assert loaded.load() is loaded


def test_a_scan_that_vanishes_before_it_is_loaded_is_named(tmp_path, voxels):
    path = save(tmp_path / "scan.nii", voxels)
    lazy = open_scan(path, large=0)
    path.unlink()
    with pytest.raises(ScanError, match=r"scan\.nii cannot be read: No such file or directory\."):
        lazy.load()


def test_every_option_is_a_keyword():
    assert [field.name for field in dataclasses.fields(OpenOptions)] == list(OpenKeywords.__annotations__)
