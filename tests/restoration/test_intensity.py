"""Intensity rules: which one is chosen, and that it can be undone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.restoration.intensity import IntensityRule, choose_intensity
from napari_restore_rwkv.scans.scan import Scan

CT = IntensityRule("ct-hu", -1024.0, 3072.0, "HU")
NUMBERS = st.floats(-5000, 5000, width=32)


class CountingVoxels:
    """A lazy array that knows which slices were read."""

    def __init__(self, voxels):
        self.voxels, self.read = voxels, []
        self.shape, self.dtype = voxels.shape, voxels.dtype

    def __getitem__(self, index):
        self.read.append(index)
        return self.voxels[index]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole scan was read")


@pytest.mark.parametrize(
    ("modality", "unit", "name", "low", "high"),
    [("CT", "HU", "ct-hu", -1024.0, 3072.0), ("PET", "SUV", "pet-suv", 0.0, 20.0)],
)
def test_ct_and_pet_in_suv_have_fixed_windows(modality, unit, name, low, high):
    scan = Scan(np.full((1, 2, 2), 7.0), modality=modality, unit=unit)
    assert choose_intensity(scan) == IntensityRule(name, low, high, unit)


def test_mr_on_the_scale_of_12_bit_scanners_keeps_that_scale(rng):
    scan = Scan(rng.integers(0, 2500, (4, 32, 32), dtype=np.int16), modality="MR")
    assert choose_intensity(scan) == IntensityRule("mr-4095", 0.0, 4095.0, "")


@pytest.mark.parametrize("largest", [1.0, 255.0, 60000.0])
def test_mr_on_another_scale_is_scaled_by_its_brightest_values(rng, largest):
    scan = Scan(rng.uniform(0, largest, (4, 64, 64)), modality="MR")
    rule = choose_intensity(scan)
    assert (rule.name, rule.low) == ("mr-robust", 0.0)
    assert float(rule.to_network(np.percentile(scan.voxels, 99.9))) == pytest.approx(0.6, abs=1e-3)


def test_negative_mr_values_move_the_low_end(rng):
    scan = Scan(rng.normal(0, 100, (4, 64, 64)), modality="MR")
    rule = choose_intensity(scan)
    assert rule.name == "mr-robust"
    assert rule.low == pytest.approx(np.percentile(scan.voxels, 0.1), rel=0.01)


def test_pet_that_is_not_in_suv_is_scaled_by_its_brightest_values(rng):
    scan = Scan(rng.uniform(0, 50000, (4, 32, 32)), modality="PET", unit="Bq/ml")
    rule = choose_intensity(scan)
    assert (rule.name, rule.unit) == ("pet-robust", "Bq/ml")


def test_an_unknown_modality_gets_a_robust_rule_and_a_given_one_its_own():
    scan = Scan(np.full((1, 2, 2), 2000, np.int16))
    assert choose_intensity(scan).name == "robust"
    assert choose_intensity(scan, "MR").name == "mr-4095"
    assert choose_intensity(scan, "CT").name == "ct-hu"


@pytest.mark.parametrize("value", [0.0, 5.0, -7.0, 1e9, -1e30, np.nan, np.inf])
def test_a_constant_scan_stays_constant(value):
    scan = Scan(np.full((2, 3, 5), value, np.float32), modality="MR")
    rule = choose_intensity(scan)
    network = rule.to_network(scan.voxels)
    assert np.all((network >= 0) & (network <= 1))
    np.testing.assert_allclose(rule.from_network(network, scan.voxels), scan.voxels, rtol=1e-6)


@pytest.mark.parametrize("value", [1.5e308, -1.5e308])
def test_values_beyond_float32_are_refused_with_a_message(value):
    scan = Scan(np.full((2, 3, 5), value), modality="MR")
    with pytest.raises(ScanError, match=r"as large as 1\.5e\+308, .* cannot be restored; divide its values"):
        choose_intensity(scan)


@pytest.mark.parametrize("value", [1e38, -1e38])
def test_the_largest_accepted_values_survive_the_round_trip(value):
    values = np.array([[[0.0, value, value]]])
    rule = choose_intensity(Scan(values, modality="MR"))
    np.testing.assert_allclose(rule.from_network(rule.to_network(values), values), values, rtol=1e-5, atol=1e32)


def test_at_most_16_slices_of_a_lazy_scan_are_read(rng):
    voxels = CountingVoxels(rng.integers(0, 100, (500, 4, 4)))
    choose_intensity(Scan(voxels, modality="MR"))
    assert len(voxels.read) == 16
    assert {0, 499} <= set(voxels.read)


def test_ct_voxels_are_not_read_to_choose_their_rule():
    voxels = CountingVoxels(np.zeros((5, 4, 4)))
    choose_intensity(Scan(voxels, modality="CT", unit="HU"))
    assert voxels.read == []


def test_non_finite_values_are_filled_for_the_network():
    filled = CT.to_network(np.array([np.nan, np.inf, -np.inf, 1024.0], np.float32))
    assert filled.tolist() == [0.0, 1.0, 0.0, 0.5]
    assert filled.dtype == np.float32


@given(arrays(np.float32, (3, 5), elements=NUMBERS))
def test_values_in_the_window_survive_the_round_trip(values):
    back = CT.from_network(CT.to_network(values), values)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, atol=4096 * 2**-23)


@given(
    arrays(np.float32, (3, 5), elements=st.floats(width=32)),
    arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)),
)
def test_values_outside_the_window_survive_bit_for_bit(original, restored):
    back = CT.from_network(restored, original)
    outside = ~((original >= CT.low) & (original <= CT.high))
    assert back[outside].tobytes() == original[outside].tobytes()
    assert np.all(np.isfinite(back[~outside]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float16, np.float64])
def test_every_real_type_is_mapped(dtype):
    values = np.array([0, 1, 100, 127], dtype)
    np.testing.assert_allclose(CT.from_network(CT.to_network(values), values), values, atol=1e-3)


def test_the_window_is_not_rounded_to_the_type_of_the_scan():
    rule = IntensityRule("mr-4095", 0.0, 4095.0, "")
    # float16 knows 4096 but not 4095.
    original = np.array([4096.0], np.float16)
    assert rule.from_network(np.zeros(1), original).tolist() == [4096.0]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_a_window_without_width_is_refused(low, high):
    with pytest.raises(ValueError, match="low < high"):
        IntensityRule("x", low, high, "")


def test_a_rule_is_stored_as_plain_values():
    assert CT.as_dict() == {"name": "ct-hu", "low": -1024.0, "high": 3072.0, "unit": "HU"}
