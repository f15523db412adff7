"""Several images at each position: frames are separated by differing attributes, never by file name."""

import numpy as np
import pytest
from dicoms import CORNER, GAP, NORMAL, write_slice

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.volume.files import SeveralFramesError

SLICES = 4
NAMES = ["dwi", "q", "a7", "0", "zz", "m", "k", "b", "9", "x1", "x0", "e"]


@pytest.fixture
def frames(rng):
    return rng.integers(0, 3000, (3, SLICES, 6, 8), dtype=np.uint16)


def write_frames(folder, frames, tags_of, names=NAMES):
    """Write the images under names in no order; `tags_of` returns the tags of frame and slice."""
    folder.mkdir()
    names = iter(names)
    for frame, stack in enumerate(frames):
        for index, pixels in enumerate(stack):
            tags = {"Modality": "MR", "RescaleIntercept": 0, **tags_of(frame, index)}
            write_slice(folder / f"{next(names)}.dcm", pixels, CORNER + index * GAP * NORMAL, **tags)
    return folder


def names_of(folder):
    with pytest.raises(SeveralFramesError) as caught:
        read_scan(folder)
    return list(caught.value.names)


@pytest.mark.parametrize(
    ("tags_of", "names"),
    [
        (
            # Instance numbers start again, and times differ from slice to slice.
            lambda f, i: {
                "DiffusionBValue": (500.0, 0.0, 1000.0)[f],
                "InstanceNumber": i + 1,
                "AcquisitionTime": f"10000{i}",
            },
            ["b 0", "b 500", "b 1000"],
        ),
        (lambda f, i: {"EchoTime": (30, 10, 20.5)[f], "EchoNumbers": f + 1}, ["TE 10 ms", "TE 20.5 ms", "TE 30 ms"]),
        (
            lambda f, i: {"ImageType": ["ORIGINAL", "PRIMARY", "PMR"[f]]},
            ["type M", "type P", "type R"],
        ),
        (lambda f, i: {"TemporalPositionIdentifier": 3 - f}, ["time 1", "time 2", "time 3"]),
        (
            lambda f, i: {"AcquisitionTime": f"1000{(30, 20, 10)[f]}.5"},
            ["acquired 100010.5", "acquired 100020.5", "acquired 100030.5"],
        ),
        (lambda f, i: {"AcquisitionTime": f"1000{10 * f + i:02}"}, ["frame 0", "frame 1", "frame 2"]),
        (lambda f, i: {"InstanceNumber": SLICES * f + i + 1}, ["frame 0", "frame 1", "frame 2"]),
        (lambda f, i: {"InstanceNumber": 3 * i + f + 1}, ["frame 0", "frame 1", "frame 2"]),
        (lambda f, i: {"TriggerTime": 40.0 * f}, ["trigger 0 ms", "trigger 40 ms", "trigger 80 ms"]),
        (
            lambda f, i: {"KVP": (80, 140, 100)[f], "InstanceNumber": i + 1 if f else SLICES - i},
            ["80 kV", "100 kV", "140 kV"],
        ),
        (lambda f, i: {"NominalPercentageOfCardiacPhase": 30 * f}, ["phase 0 %", "phase 30 %", "phase 60 %"]),
        (lambda f, i: {"SeriesDescription": f"phase {'cab'[f]}"}, ["phase a", "phase b", "phase c"]),
        (
            # From 23:59:54, two seconds a slice.
            lambda f, i: {
                "AcquisitionDate": "20240101" if SLICES * f + i < 3 else "20240102",
                "AcquisitionTime": ("235954", "235956", "235958", "000000")[i] if f == 0 else f"0000{10 * f + i}",
                "InstanceNumber": SLICES * f + i + 1,
            },
            ["frame 0", "frame 1", "frame 2"],
        ),
    ],
    ids=[
        *("b", "echo", "type", "time", "acquired", "slice by slice", "blocks", "interleaved", "trigger"),
        *("tube voltage", "cardiac phase", "description", "midnight"),
    ],
)
def test_frames_are_split_by_what_differs(tmp_path, frames, tags_of, names):
    folder = write_frames(tmp_path / "scan", frames, tags_of)
    assert names_of(folder) == names
    read = [read_scan(folder, time_index=number).voxels for number in range(3)]
    # Each is one of those written, whole.
    order = [next(number for number in range(3) if np.array_equal(voxels, frames[number])) for voxels in read]
    assert sorted(order) == [0, 1, 2]
    values = [tags_of(frame, 0) for frame in order]
    if "DiffusionBValue" in values[0]:
        assert [value["DiffusionBValue"] for value in values] == [0, 500, 1000]
    if "EchoTime" in values[0]:
        assert [value["EchoTime"] for value in values] == [10, 20.5, 30]


def test_two_differences_between_frames_are_both_named(tmp_path, rng):
    frames = rng.integers(0, 3000, (4, 3, 6, 8), dtype=np.uint16)

    def tags_of(frame, index):
        return {
            "EchoTime": (10, 20)[frame % 2],
            "DiffusionBValue": (0.0, 800.0)[frame // 2],
            "InstanceNumber": index + 1,
        }

    folder = write_frames(tmp_path / "scan", frames, tags_of)
    assert names_of(folder) == ["TE 10 ms, b 0", "TE 10 ms, b 800", "TE 20 ms, b 0", "TE 20 ms, b 800"]
    for number, frame in enumerate([0, 2, 1, 3]):
        np.testing.assert_array_equal(read_scan(folder, time_index=number).voxels, frames[frame])


def test_b_values_in_private_attributes_are_read(tmp_path, frames):
    folder = write_frames(tmp_path / "scan", frames, lambda f, i: {})
    import pydicom

    for number, file in enumerate(folder / f"{name}.dcm" for name in NAMES):
        data = pydicom.dcmread(file)
        data.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
        data.add_new(0x0019100C, "IS", str((0, 50, 800)[number // SLICES]))
        data.save_as(file)
    assert names_of(folder) == ["b 0", "b 50", "b 800"]


def test_indistinguishable_images_are_refused(tmp_path, frames):
    folder = write_frames(tmp_path / "scan", frames, lambda f, i: {"InstanceNumber": i + 1})
    with pytest.raises(
        ScanError, match="scan has 3 images at each position, and nothing in them indicates which belong"
    ):
        read_scan(folder, time_index=0)


def test_numbers_that_start_again_do_not_tell_frames_apart(tmp_path, frames):
    """Upwards in one frame and downwards in the other, both halves of the numbers are mixtures."""
    folder = write_frames(tmp_path / "scan", frames[:2], lambda f, i: {"InstanceNumber": i + 1 if f else SLICES - i})
    with pytest.raises(ScanError, match="nothing in them indicates which belong"):
        read_scan(folder, time_index=0)
