"""Ways to look at a difference: by hand, and the local noise against noise of a known strength."""

import numpy as np
import pytest

from napari_restore_rwkv.reliability.difference import Mode, as_seen, limit_of, local_noise, unit_of

CHANGE, BEFORE = np.array([[-5.0, 5.0, 2.0]]), np.array([[0.0, 1000.0, -1000.0]])


def test_hounsfield_units_are_relative_to_the_attenuation():
    seen = as_seen(CHANGE, BEFORE, Mode.RELATIVE, "HU", 100.0)
    np.testing.assert_allclose(seen, [[-0.5, 0.25, np.nan]])
    assert unit_of(Mode.RELATIVE, "HU") == "% of HU + 1000"


def test_other_units_are_relative_to_the_input():
    np.testing.assert_allclose(as_seen(CHANGE, BEFORE, Mode.RELATIVE, "SUV", 1.0), [[np.nan, 0.5, -0.2]])
    assert unit_of(Mode.RELATIVE, "SUV") == "% of the input"


def test_absolute_has_no_sign_and_signed_is_in_units():
    np.testing.assert_array_equal(as_seen(CHANGE, BEFORE, Mode.ABSOLUTE, "HU", 0), [[5, 5, 2]])
    np.testing.assert_array_equal(as_seen(CHANGE, BEFORE, Mode.SIGNED, "HU", 0), CHANGE)
    assert [unit_of(Mode.SIGNED, unit) for unit in ("HU", "")] == ["HU", "units of the scan"]


def test_multiples_of_the_noise():
    noise = np.array([[2.5, 10.0, np.nan]])
    np.testing.assert_allclose(as_seen(CHANGE, BEFORE, Mode.IN_NOISE, "HU", 0, noise), [[-2, 0.5, np.nan]])


def test_local_noise_follows_noise_that_is_twice_as_strong_on_one_side(rng):
    image = 40 + rng.normal(0, 20, (256, 256))
    image[:, 128:] = 40 + 2 * (image[:, 128:] - 40)
    found = local_noise(image, "CT")
    assert found[:, 160:].mean() / found[:, :96].mean() == pytest.approx(2, rel=0.05)
    assert found[:, :96].mean() == pytest.approx(20, rel=0.35), "the level is that of the whole slice"
    even = local_noise(40 + rng.normal(0, 20, (256, 250)), "CT")
    assert even.mean() == pytest.approx(20, rel=0.1)
    assert even.shape == (256, 250)
    assert even.std() < 2


def test_a_slice_without_noise_has_none_to_count_in():
    assert np.isnan(local_noise(np.zeros((64, 64)), "CT")).all()


def test_the_limit_is_the_995th_per_mille_of_what_is_finite(rng):
    seen = rng.normal(0, 1, (100, 100))
    expected = np.percentile(np.abs(seen), 99.5)
    assert limit_of(np.vstack([seen, np.full((1, 100), np.nan)])) == pytest.approx(expected)
    assert limit_of(np.zeros((3, 3))) == limit_of(np.full((3, 3), np.nan)) == 1
