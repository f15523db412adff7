"""Scans larger than memory are written a few slices at a time, to the same files as by `write_scan`."""

import json

import numpy as np
import pytest
from handmade import rotation
from zarrs import noise

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans import export as export_module
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan

SUFFIXES = [".nii", ".nii.gz", ".mha"]


def lazy_scan(dtype=np.int16):
    voxels, most = noise((37, 20, 30)).astype(dtype), []

    def read(box):
        most.append(box[0].stop - box[0].start)
        return voxels[box]

    scan = Scan(
        LazyVoxels(voxels.shape, voxels.dtype, read),
        spacing_mm=(3.0, 0.5, 0.75),
        origin_mm=(-120.5, 33.25, 871.0),
        direction=rotation(),
        modality="PET",
        unit="SUV",
        metadata={"restoration": {"software": "napari-restore-rwkv test"}},
    )
    return scan, voxels, most


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_large_scan_is_written_in_parts_and_is_the_same_file_as_a_small_one(tmp_path, suffix, dtype):
    scan, voxels, most = lazy_scan(dtype)
    path, expected = tmp_path / f"large{suffix}", tmp_path / f"small{suffix}"
    steps = list(export_scan(scan, path, large=0))
    assert max(most) <= 16
    assert [step.done for step in steps][-1] == steps[-1].total
    write_scan(scan.with_voxels(voxels), expected)
    large, small = read_scan(path), read_scan(expected)
    assert np.array_equal(large.voxels, small.voxels)
    assert large.voxels.dtype == small.voxels.dtype == dtype
    assert (large.spacing_mm, large.origin_mm) == (small.spacing_mm, small.origin_mm)
    assert np.array_equal(large.direction, small.direction)
    assert (large.modality, large.unit) == (small.modality, small.unit) == ("PET", "SUV")
    if suffix != ".nii.gz":
        assert path.read_bytes() == expected.read_bytes()
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["software"] == "napari-restore-rwkv test"
    assert {file.name for file in tmp_path.iterdir()} == {
        name for file in (path, expected) for name in (file.name, f"{file.name}.json")
    }


@pytest.mark.parametrize(
    ("name", "slices", "words"),
    [
        ("a.nrrd", 3, r"for scans of this size choose \.nii, \.nii\.gz, \.mha"),
        ("a.nii", 40000, r"NIfTI holds 32767 slices, not 40000; choose \.mha"),
    ],
)
def test_a_format_that_cannot_hold_a_large_scan_is_refused(tmp_path, name, slices, words):
    voxels = LazyVoxels((slices, 4, 4), np.int16, lambda box: pytest.fail("nothing should be read"))
    with pytest.raises(OutputError, match=words):
        finish(export_scan(Scan(voxels), tmp_path / name, large=0))


def test_a_file_that_is_not_read_back_correctly_is_removed(tmp_path, monkeypatch):
    scan, _, _ = lazy_scan()

    class Forgetful:
        def __init__(self, stream):
            self._stream, self._count = stream, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._stream.close()

        def write(self, content):
            self._count += 1
            self._stream.write(bytes(len(content)) if self._count == 3 else content)

    opened = export_module._opened
    monkeypatch.setattr(export_module, "_opened", lambda path: Forgetful(opened(path)))
    with pytest.raises(OutputError, match="it reads back differently than it was written; try another disk"):
        finish(export_scan(scan, tmp_path / "a.mha", large=0))
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path):
    scan, _, _ = lazy_scan()
    path = tmp_path / "a.mha"
    path.write_text("old")
    steps = export_scan(scan, path, large=0)
    for _ in range(4):
        next(steps)
    steps.close()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_record_of_an_older_result_does_not_stay_beside_another_scan(tmp_path):
    scan, _, _ = lazy_scan()
    path = tmp_path / "a.mha"
    finish(export_scan(scan, path, large=0))
    assert (tmp_path / "a.mha.json").exists()
    finish(export_scan(scan.with_voxels(scan.voxels, metadata={}), path, large=0))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mha"]


def test_a_small_lazy_scan_is_written(tmp_path):
    scan, voxels, _ = lazy_scan()
    finish(export_scan(scan, tmp_path / "a.nrrd"))
    assert np.array_equal(read_scan(tmp_path / "a.nrrd").voxels, voxels)
