"""Non-negative results: nothing below zero, the mean kept, and nothing changed without need."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.non_negative import non_negative
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.scans.scan import Scan


class Overshooting(nn.Module):
    """Subtracts a hundredth of the window everywhere, like a network that does not reproduce zero exactly."""

    def forward(self, x):
        return x - 0.01


@given(arrays(np.float32, (5, 7), elements=st.floats(-100, 100, width=32)))
def test_nothing_is_negative_and_the_mean_stays(values):
    projected = non_negative(values)
    assert projected.min() >= 0
    assert projected.sum() == pytest.approx(max(values.astype(float).sum(), 0), abs=1e-2)


def test_non_negative_values_are_returned_unchanged(rng):
    values = rng.random((6, 6), np.float32)
    np.testing.assert_array_equal(non_negative(values), values)


def test_a_hot_spot_loses_almost_nothing(rng):
    values = rng.normal(0, 0.01, (64, 64)).astype(np.float32)
    values[20:24, 20:24] = 5
    projected = non_negative(values)
    assert projected[20:24, 20:24].min() > 4.98


@pytest.mark.parametrize(("modality", "unit"), [("PET", "SUV"), ("PET", ""), ("MR", "")])
def test_a_restored_scan_is_nowhere_negative_where_the_scan_was_not(rng, modality, unit):
    scan = Scan(rng.random((2, 16, 16), np.float32) * (rng.random((2, 16, 16)) < 0.5), modality=modality, unit=unit)
    restored = finish(iter_restore(scan, Overshooting()))
    assert restored.voxels.min() == 0
    assert restored.voxels.mean() < scan.voxels.mean()


def test_hounsfield_units_may_be_negative(rng):
    scan = Scan(np.full((1, 8, 8), -500, np.float32), modality="CT")
    assert finish(iter_restore(scan, Overshooting())).voxels.max() < -500
