"""HDF5 in the layout of ITK: what ITK makes of it, and a sentence for what is damaged, hostile or elsewhere."""

import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from handmade import image_of, rotation, save
from zarrs import noise

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan

VOXELS = noise((4, 6, 9))


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / "scan.h5", VOXELS, direction=rotation())


def replaced(path, **options):
    """Write the voxels of a file again, by other options."""
    with h5py.File(path, "r+") as file:
        image = file["ITKImage/0"]
        del image["VoxelData"]
        image.create_dataset("VoxelData", **options)
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_a_valid_file_is_read_as_itk_reads_it(tmp_path, compress):
    image = image_of(VOXELS, rotation())
    image.SetMetaData("Modality", "CT")
    sitk.WriteImage(image, str(tmp_path / "scan.h5"), useCompression=compress)
    scan = read_scan(tmp_path / "scan.h5")
    assert np.array_equal(scan.voxels, VOXELS)
    assert np.allclose(scan.spacing_mm[::-1], image.GetSpacing(), rtol=1e-12)
    assert np.allclose(scan.origin_mm, image.GetOrigin(), rtol=1e-12)
    assert np.allclose(scan.direction.ravel(), image.GetDirection(), atol=1e-12)
    assert scan.modality == "CT"
    assert np.array_equal(open_scan(tmp_path / "scan.h5").voxels[1:3, 2:5, 3:4], VOXELS[1:3, 2:5, 3:4])


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": None},
        {"chunks": (3, 4, 5)},
        {"chunks": (3, 4, 5), "compression": "gzip"},
        {"chunks": (1, 6, 9), "compression": "gzip", "shuffle": True},
    ],
)
def test_other_chunks_and_filters_give_the_same_voxels(path, options):
    assert np.array_equal(read_scan(replaced(path, data=VOXELS, **options)).voxels, VOXELS)


def test_a_big_endian_file_is_the_same(path):
    scan = read_scan(replaced(path, data=VOXELS.astype(">i2")))
    assert scan.voxels.dtype == np.dtype(np.int16)
    assert np.array_equal(scan.voxels, VOXELS)


def test_one_frame_of_several_is_read(tmp_path):
    frames = [image_of(VOXELS + 7 * number) for number in range(3)]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "four.h5"))
    assert np.array_equal(read_scan(tmp_path / "four.h5", time_index=2).voxels, VOXELS + 14)
    with pytest.raises(ScanError, match="contains 3 frames"):
        read_scan(tmp_path / "four.h5")


def test_several_values_per_voxel_are_refused(tmp_path):
    sitk.WriteImage(sitk.Compose([image_of(VOXELS)] * 3), str(tmp_path / "scan.h5"))
    with pytest.raises(ScanError, match="contains 3 values per voxel"):
        read_scan(tmp_path / "scan.h5")


def test_voxels_in_another_file_are_refused(path, tmp_path):
    (tmp_path / "secret").write_bytes(VOXELS.tobytes())
    outside = [(str(tmp_path / "secret"), 0, VOXELS.nbytes)]
    replaced(path, shape=VOXELS.shape, dtype=VOXELS.dtype, external=outside)
    with pytest.raises(ScanError, match="contains no voxels; if it keeps them in another file, pack them into one"):
        read_scan(path)


def test_links_to_another_file_are_refused(path, tmp_path):
    other = save(tmp_path / "other.h5", VOXELS)
    with h5py.File(path, "r+") as file:
        del file["ITKImage/0/VoxelData"]
        file["ITKImage/0/VoxelData"] = h5py.ExternalLink(other.name, "/ITKImage/0/VoxelData")
    with pytest.raises(ScanError, match=r"scan\.h5 cannot be read"):
        read_scan(path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("Spacing", [1, 1, np.nan], "no usable geometry: its voxel size is"),
        ("Spacing", [1, -1, 1], "no usable geometry: its voxel size is"),
        ("Origin", [np.inf, 0, 0], "no usable geometry: its position is"),
        ("Directions", np.ones((3, 3)), "sheared voxel grid|right angles"),
        ("Directions", np.full((3, 3), 1e300), "sheared voxel grid|right angles"),
        ("Dimension", [9, 6, 5], "contains 9 x 6 x 4 voxels, which differs from its header"),
    ],
)
def test_an_impossible_geometry_is_refused(path, field, value, words):
    with h5py.File(path, "r+") as file:
        old = file["ITKImage/0"][field]
        del file["ITKImage/0"][field]
        file["ITKImage/0"][field] = np.asarray(value, old.dtype)
    with pytest.raises(ScanError, match=words):
        read_scan(path)


def test_missing_chunks_are_not_read_as_zeros(path):
    replaced(path, shape=VOXELS.shape, dtype=VOXELS.dtype, chunks=(1, 6, 9))
    with h5py.File(path, "r+") as file:
        file["ITKImage/0/VoxelData"][0] = VOXELS[0]
    with pytest.raises(ScanError, match=r"the voxels from \(1, 0, 0\) on are missing"):
        read_scan(path)


def test_a_chunk_of_gigabytes_in_a_small_file_is_refused(path):
    shape = (700, 1024, 1024)
    replaced(path, shape=shape, dtype="i2", chunks=shape, compression="gzip")
    with h5py.File(path, "r+") as file:
        image = file["ITKImage/0"]
        image["VoxelData"].id.write_direct_chunk((0, 0, 0), b"x" * 1000)
        del image["Dimension"]
        image["Dimension"] = np.array(shape[::-1], np.uint64)
    for read in (read_scan, lambda path: np.asarray(open_scan(path, modality="CT").voxels[0])):
        with pytest.raises(ScanError, match="to 1468 MB, which no scan does"):
            read(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_refused(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ScanError, match=r"scan\.h5 cannot be read"):
        read_scan(path)


def test_voxels_that_are_a_view_of_another_file_are_refused(path, tmp_path):
    other = save(tmp_path / "other.h5", VOXELS)
    view = h5py.VirtualLayout(VOXELS.shape, VOXELS.dtype)
    view[:] = h5py.VirtualSource(other.name, "ITKImage/0/VoxelData", shape=VOXELS.shape)
    with h5py.File(path, "r+") as file:
        del file["ITKImage/0/VoxelData"]
        file["ITKImage/0"].create_virtual_dataset("VoxelData", view)
    with pytest.raises(ScanError, match="keeps its voxels in other files or in its header; repack it with h5repack"):
        read_scan(path)


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "unpacked"), [(40_000_000, 24), (3, 200 << 20)], ids=["chunk", "stream"])
def test_a_field_of_megabytes_in_a_small_file_takes_no_memory(path, chunk, unpacked):
    stream = zlib.compress(bytes(unpacked))
    with h5py.File(path, "r+") as file:
        image = file["ITKImage/0"]
        del image["Spacing"]
        numbers = {"shape": (3,), "maxshape": (None,), "dtype": "f8", "chunks": (chunk,), "compression": "gzip"}
        image.create_dataset("Spacing", **numbers).id.write_direct_chunk((0,), stream)
    tracemalloc.start()
    with pytest.raises(ScanError, match="damaged, cut off, or not in ITK's layout"):
        read_scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20


def test_only_the_text_fields_that_tell_the_modality_are_looked_at(path):
    with h5py.File(path, "r+") as file:
        fields = file["ITKImage/0"].require_group("MetaData")
        fields["Modality"] = np.array([b"PT"])
        fields["unit"] = h5py.SoftLink("/ITKImage/0/MetaData/Modality")
        fields.create_dataset("long", shape=(1,), dtype="S900000000", chunks=(1,), compression="gzip")
        fields.create_group("odd")
    scan = read_scan(path)
    assert (scan.modality, scan.unit) == ("PET", "PT")
