"""Decoders run in a process of their own: what ends it, or keeps it for ever, refuses an image and nothing else."""

import os
import subprocess
import sys

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicoms import CORNER, GAP, NORMAL, write_slice
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, RLELossless

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.dicom import decoding as dicom_decoding
from napari_restore_rwkv.scans.files import read_scan


@pytest.fixture
def picture():
    return (7 * np.arange(32 * 24, dtype=np.uint16).reshape(32, 24)) % 3000


@pytest.fixture(autouse=True)
def fresh_process():
    """A decoder of the test's own."""
    dicom_decoding._process.close()
    yield
    dicom_decoding._process.close()


def write_packed(path, packed, shape, corner=CORNER):
    write_slice(path, np.zeros(shape, np.uint16), corner)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.PixelData = encapsulate([packed])
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    return path


# With these bytes the library aborts, or reads where it may not.
@pytest.mark.slow
@pytest.mark.parametrize(("at", "value"), [(2, 0), (3, 255), (33, 255)])
def test_damage_that_ends_the_decoder_is_refused_and_the_next_image_is_read(tmp_path, picture, at, value):
    packed = bytearray(imagecodecs.ljpeg_encode(picture))
    good = write_packed(tmp_path / "good.dcm", bytes(packed), picture.shape)
    packed[at] = value
    bad = write_packed(tmp_path / "bad.dcm", bytes(packed), picture.shape)
    with pytest.raises(ScanError, match=r"bad\.dcm cannot be read: its pixels are damaged"):
        read_scan(bad)
    np.testing.assert_array_equal(read_scan(good).voxels[0], picture.astype(np.int16) - 1024)


@pytest.mark.slow
def test_one_process_unpacks_all_slices_of_a_series(tmp_path, picture, monkeypatch):
    started = []
    whole = subprocess.Popen

    def popen(*arguments, **options):
        started.append(whole(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    for index in range(4):
        packed = imagecodecs.ljpeg_encode(picture + np.uint16(index))
        write_packed(tmp_path / f"{index}.dcm", packed, picture.shape, CORNER + index * GAP * NORMAL)
    scan = read_scan(tmp_path)
    assert [int(values[0, 0]) + 1024 for values in scan.voxels] == [0, 1, 2, 3]
    assert len(started) == 1
    dicom_decoding._process.close()
    assert started[0].poll() is not None


def pretended(monkeypatch, code):
    monkeypatch.setattr(dicom_decoding, "python_command", lambda module: [sys.executable, "-c", code])


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import sys; sys.stdin.readline(); print('not an answer', flush=True)",
        "import sys; sys.stdin.readline(); print('[]', flush=True)",
        """import sys; sys.stdin.readline(); print('{"shape": [32, 24], "dtype": "<u2"}', flush=True)""",
        """import sys; sys.stdin.readline(); print('{"shape": [99999, 99999, 99999], "dtype": "<u2"}', flush=True)""",
        """import sys; sys.stdin.readline(); print('{"shape": [-1, 24], "dtype": "O"}', flush=True)""",
    ],
)
def test_a_wrong_answer_of_the_decoder_is_not_a_crash(tmp_path, picture, monkeypatch, code):
    path = write_packed(tmp_path / "slice.dcm", imagecodecs.ljpeg_encode(picture), picture.shape)
    pretended(monkeypatch, code)
    with pytest.raises(ScanError, match="its pixels are damaged"):
        read_scan(path)


def test_a_decoder_that_hangs_is_killed(tmp_path, picture, monkeypatch):
    path = write_packed(tmp_path / "slice.dcm", imagecodecs.ljpeg_encode(picture), picture.shape)
    monkeypatch.setattr(dicom_decoding, "PATIENCE_S", 0.2)
    pretended(monkeypatch, "import time; time.sleep(1000)")
    with pytest.raises(ScanError, match="its pixels are damaged"):
        read_scan(path)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_its_own_decoder(tmp_path, picture):
    path = write_packed(tmp_path / "slice.dcm", imagecodecs.ljpeg_encode(picture), picture.shape)
    read_scan(path)
    child = os.fork()
    if child == 0:
        try:
            same = np.array_equal(read_scan(path).voxels[0] + 1024, picture)
            dicom_decoding._process.close()
        finally:
            os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(read_scan(path).voxels[0] + 1024, picture)


def test_a_small_file_with_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path, picture):
    """The decoder of run lengths makes room for what the header says: 8 GB for 2 kB."""
    path = tmp_path / "slice.dcm"
    write_slice(path, picture, CORNER)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.Rows = data.Columns = 65535
    data.save_as(path)
    with pytest.raises(ScanError, match=r"would unpack .* which no scan does|does not fit into memory"):
        read_scan(path)
