"""Large files: read slice by slice if possible, else unpacked once, with the same voxels."""

import gc
import gzip
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from handmade import image_of, nifti, rotation, save
from zarrs import noise

from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.scans import opening as opening_module
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.opening import open_scan, opening
from napari_restore_rwkv.scans.options import OpenOptions

RAW = [".nii", ".mha", ".mhd", ".h5"]
PACKED = [".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"]


def same(lazy, eager):
    assert isinstance(lazy.voxels, LazyVoxels)
    assert np.array_equal(lazy.voxels, eager.voxels)
    assert lazy.voxels.dtype == eager.voxels.dtype
    assert lazy.spacing_mm == eager.spacing_mm
    assert lazy.origin_mm == eager.origin_mm
    assert np.array_equal(lazy.direction, eager.direction)
    assert (lazy.modality, lazy.unit) == (eager.modality, eager.unit)
    assert lazy.metadata["source"] == eager.metadata["source"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", RAW)
def test_an_uncompressed_file_is_read_piece_by_piece(tmp_path, suffix, dtype):
    voxels = np.abs(noise((6, 20, 30))).astype(dtype)
    path = save(tmp_path / f"scan{suffix}", voxels, direction=rotation())
    scan = open_scan(path, large=0)
    same(scan, read_scan(path))
    assert np.array_equal(scan.voxels, voxels)
    assert np.array_equal(scan.voxels[2, 3:15, ::2], voxels[2, 3:15, ::2])
    assert np.array_equal(scan.voxels[:, 7], voxels[:, 7])
    assert np.array_equal(scan.voxels[..., -1], voxels[..., -1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_file_is_unpacked_once_and_is_the_same_scan(tmp_path, suffix, dtype):
    voxels = np.abs(noise((37, 20, 30))).astype(dtype)
    path = save(tmp_path / f"scan{suffix}", voxels, compress=True, direction=rotation())
    same(open_scan(path, large=0), read_scan(path))


def test_an_uncompressed_nrrd_is_the_same_scan(tmp_path):
    path = save(tmp_path / "scan.nrrd", noise((5, 6, 7)), direction=rotation())
    same(open_scan(path, large=0), read_scan(path))


@pytest.mark.parametrize("packed", [False, True])
def test_a_big_endian_metaimage_is_the_same_scan(tmp_path, packed):
    voxels = noise((3, 4, 5))
    path = save(tmp_path / "scan.mhd", voxels, compress=packed)
    [data] = [file for file in tmp_path.iterdir() if file.suffix != ".mhd"]
    content = voxels.astype(">i2").tobytes()
    import zlib

    data.write_bytes(zlib.compress(content) if packed else content)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("CompressedDataSize")]
    text = "\n".join(lines).replace("BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = True")
    path.write_text(text + "\n")
    scan = open_scan(path, large=0)
    assert np.array_equal(scan.voxels, voxels)
    same(scan, read_scan(path))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_scale_of_a_nifti_is_applied(tmp_path, suffix):
    content = bytearray(nifti(noise((4, 5, 6))))
    np.frombuffer(content, "<f4", 2, 112)[:] = (0.5, -100.0)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content))
    scan = open_scan(path, large=0)
    assert scan.voxels.dtype == np.float32
    same(scan, read_scan(path))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_one_frame_of_several_is_read(tmp_path, suffix, packed):
    voxels = noise((3, 4, 5, 6))
    image = sitk.JoinSeries([image_of(frame) for frame in voxels])
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image, str(path), useCompression=packed)
    scan = open_scan(path, large=0, time_index=2)
    assert np.array_equal(scan.voxels, voxels[2])
    with pytest.raises(ScanError, match="contains 3 frames"):
        open_scan(path, large=0)


def test_several_gzip_streams_in_a_row_are_one(tmp_path):
    content = nifti(noise((4, 5, 6)))
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    same(open_scan(path, large=0), read_scan(path))


def test_p_nii_beside_p_nii_gz_is_another_scan(tmp_path):
    ours, theirs = noise((4, 5, 6)), noise((4, 5, 6), seed=9)
    save(tmp_path / "p.nii.gz", ours)
    save(tmp_path / "p.nii", theirs)
    assert np.array_equal(open_scan(tmp_path / "p.nii.gz", large=0).voxels, ours)
    assert np.array_equal(open_scan(tmp_path / "p.nii", large=0).voxels, theirs)


def test_small_files_are_read_as_before(tmp_path):
    path = save(tmp_path / "scan.nii.gz", noise((4, 5, 6)))
    scan = open_scan(path)
    assert isinstance(scan.voxels, np.ndarray)
    assert scan.metadata == read_scan(path).metadata


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the bytes that a process has read")
def test_a_large_file_is_not_read_when_it_is_opened(tmp_path):
    def bytes_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    for suffix in (".nii", ".mha"):
        voxels = np.zeros((1, 512, 512), np.int16)
        path = save(tmp_path / f"scan{suffix}", voxels)
        content = bytearray(path.read_bytes())
        header = len(content) - voxels.nbytes
        if suffix == ".nii":
            np.frombuffer(content, "<i2", 4, 40)[3] = 2048
        else:
            wider = bytes(content[:header]).replace(b"DimSize = 512 512 1\n", b"DimSize = 512 512 2048\n")
            content, header = bytearray(wider), len(wider)
        with path.open("wb") as file:
            file.write(content[:header])
            file.truncate(header + 2048 * 512 * 512 * 2)
        before = bytes_read()
        scan = open_scan(path, modality="CT")
        assert isinstance(scan.voxels, LazyVoxels)
        assert scan.voxels[1999].shape == (512, 512)
        # A slice has half a MiB, the file a GiB.
        assert bytes_read() - before < 4 << 20


def watched(steps, seen):
    """Pass on the steps of a job and record them."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        seen.append(step)
        yield step


def test_unpacking_reports_progress_and_leaves_nothing_behind(tmp_path):
    voxels = noise((40, 12, 10))
    path = save(tmp_path / "scan.nii.gz", voxels)
    folder = tmp_path / "room"
    folder.mkdir()
    steps = opening(path, OpenOptions(large=0, folder=folder))
    seen = []
    scan = finish(watched(steps, seen))
    assert [step.done for step in seen] == [16, 32, 40]
    assert all(step.total == 40 for step in seen)
    assert (seen[0].phase, seen[0].detail) == (Phase.UNPACKING, "scan.nii.gz")
    assert np.array_equal(scan.voxels[33], voxels[33])
    assert list(folder.iterdir())
    del scan, steps
    gc.collect()
    assert list(folder.iterdir()) == []


def test_closing_while_unpacking_leaves_nothing_behind(tmp_path):
    path = save(tmp_path / "scan.nii.gz", noise((40, 12, 10)))
    folder = tmp_path / "room"
    folder.mkdir()
    steps = opening(path, OpenOptions(large=0, folder=folder))
    next(steps)
    steps.close()
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd", ".nii"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix):
    path = save(tmp_path / f"scan{suffix}", noise((8, 30, 30)), compress=suffix != ".nii")
    os.truncate(path, path.stat().st_size - 600)
    with pytest.raises(ScanError, match=r"cannot be read: .*(cut off|damaged)"):
        np.asarray(open_scan(path, large=0).voxels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_stream_is_refused_even_in_its_checksum(tmp_path, suffix):
    path = save(tmp_path / f"scan{suffix}", noise((8, 30, 30)), compress=True)
    content = bytearray(path.read_bytes())
    content[-6 if suffix != ".mha" else -2] ^= 4
    path.write_bytes(content)
    with pytest.raises(ScanError, match="its compressed voxels are damaged"):
        open_scan(path, large=0)


def test_too_little_space_to_unpack_is_reported_at_the_start(tmp_path, monkeypatch):
    path = save(tmp_path / "scan.nii.gz", noise((8, 30, 30)))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("napari_restore_rwkv.scans.volume.staging.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"cannot be unpacked in .* 0 MB are free; free some space, or set TMPDIR"):
        open_scan(path, large=0)


def test_hdf5_of_another_layout_is_refused(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["voxels"] = noise((3, 4, 5))
    with pytest.raises(ScanError, match=r"scan\.h5 cannot be read: it is damaged, cut off, or not in ITK's layout"):
        open_scan(path)


def test_a_lazy_scan_recognises_hu_from_a_few_slices(tmp_path, monkeypatch):
    voxels = np.full((40, 20, 20), -1000, np.int16)
    voxels[:, 5:15, 5:15] = 40
    path = save(tmp_path / "scan.mha", voxels)
    scan = open_scan(path, large=0)
    assert (scan.modality, scan.unit) == ("CT", "HU")
    assert scan.metadata["modality_reason"].endswith("as in HU (5 of 40 slices looked at)")
    monkeypatch.setattr(opening_module, "_sample", lambda _: pytest.fail("slices were read"))
    assert open_scan(path, large=0, modality="CT").unit == "HU"


def test_a_fingerprint_sees_a_change_of_content_and_of_time(tmp_path):
    path = save(tmp_path / "scan.mha", noise((4, 5, 6)))
    before = open_scan(path, large=0).voxels.fingerprint()
    assert before == open_scan(path, large=0).voxels.fingerprint()
    os.utime(path, ns=(1, 1))
    touched = open_scan(path, large=0).voxels.fingerprint()
    assert touched["bytes"] == before["bytes"]
    assert touched["changes"] != before["changes"]


@pytest.mark.parametrize(
    "index",
    [3, -1, (slice(None), 2), (slice(5, 0, -2), slice(1, 4, 2), -1), (..., 2), (1, ...), (slice(4, 4),), (2, 3, 4)],
)
def test_lazy_voxels_are_indexed_like_numpy(index):
    voxels = noise((6, 7, 8))
    lazy = LazyVoxels(voxels.shape, voxels.dtype, lambda box: voxels[box])
    assert np.array_equal(lazy[index], voxels[index])
    assert np.shape(lazy[index]) == np.shape(voxels[index])


@pytest.mark.parametrize(
    ("index", "words"), [(6, "out of range for 6"), ((0, 0, 0, 0), "Too many indices"), (1.5, "integers and slices")]
)
def test_a_wrong_index_is_an_index_error(index, words):
    lazy = LazyVoxels((6, 7, 8), np.int16, lambda box: pytest.fail("nothing should be read"))
    with pytest.raises(IndexError, match=words):
        lazy[index]


@pytest.mark.parametrize("suffix", [*RAW, ".tif"])
def test_a_file_that_vanishes_after_it_was_opened_is_told_in_words(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, noise((4, 6, 9)), photometric="minisblack")
    else:
        save(path, noise((4, 6, 9)))
    scan = finish(opening(path, OpenOptions(modality="CT", large=0)))
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(ScanError, match=r"cannot be read any further \(no such file or directory\); put it back"):
        scan.voxels[1]


def test_an_hdf5_file_that_shrinks_after_it_was_opened_is_told_in_words(tmp_path):
    path = save(tmp_path / "scan.h5", noise((40, 60, 90)))
    scan = finish(opening(path, OpenOptions(modality="CT", large=0)))
    os.truncate(path, 5000)
    with pytest.raises(ScanError, match=r"scan\.h5 cannot be read"):
        scan.voxels[30]
