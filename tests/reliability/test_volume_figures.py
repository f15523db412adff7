"""Figures of a volume are means over its slices, and name the worst one."""

import numpy as np
import pytest

from napari_restore_rwkv.reliability.numbers import against_reference
from napari_restore_rwkv.reliability.volume_figures import volume_figures
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan

WINDOW = (-160.0, 240.0)


@pytest.fixture
def scans(rng):
    """A clean scan of 4 slices along y, one with noise, and one with less, most of it left in slice 2."""
    clean = np.cumsum(rng.normal(0, 5, (40, 4, 48)), axis=0).astype(np.float32)
    noise = rng.normal(0, 10, clean.shape).astype(np.float32)
    left = np.full((1, 4, 1), 0.2, np.float32)
    left[:, 2] = 0.9
    return tuple(
        Scan(voxels, (1.0, 3.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
        for voxels in (clean, clean + noise, clean + left * noise)
    )


def measured(steps):
    """The steps, and what they return."""
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as stop:
            return told, stop.value


def test_each_slice_is_scored_by_itself_and_the_volume_is_their_mean(scans):
    clean, before, after = scans
    told, found = measured(volume_figures(before, after, clean.voxels, indices=[0, 2, 3], axis=1, window=WINDOW))
    assert [(step.done, step.total) for step in told] == [(1, 3), (2, 3), (3, 3)]
    names = [one.name for one in found.series]
    assert names[0] == "PSNR, window -160 to 240"
    assert names[4:] == ["HaarPSI, window -160 to 240", "noise in flat regions", "mean of the slice"]
    expected = [
        against_reference(*(s.voxels[:, at] for s in (before, after, clean)), "HU", WINDOW)[0].after for at in (0, 2, 3)
    ]
    assert found.series[0].after == pytest.approx(expected)
    figure = found.figures()[0]
    assert (figure.name, figure.unit) == ("volume, 3 slices: PSNR, window -160 to 240", "dB")
    assert figure.after == pytest.approx(np.mean(expected))
    assert [found.worst(number) for number in range(5)] == [2] * 5


def test_without_a_reference_there_is_noise_and_mean(scans):
    _, before, after = scans
    _, found = measured(volume_figures(before, after, indices=range(4), axis=1))
    assert [one.name for one in found.series] == ["noise in flat regions", "mean of the slice"]
    assert found.figures()[1].before == pytest.approx(before.voxels.mean(), abs=1e-3)


def test_no_more_than_a_slice_is_read_at_a_time_and_closing_cancels(scans):
    clean, before, after = scans
    boxes = []

    def read(box):
        boxes.append(box)
        return clean.voxels[box]

    lazy = LazyVoxels(clean.shape, np.float32, read)
    steps = volume_figures(before, after, lazy, indices=range(4), axis=1)
    next(steps)
    steps.close()
    assert [box[1] for box in boxes] == [slice(0, 1)]
