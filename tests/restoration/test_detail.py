"""Detail back: neutral changes nothing, and fine and coarse detail are put back independently."""

import numpy as np
import pytest

from napari_restore_rwkv.restoration.detail import SPLIT_PX, Blend, blended, low_pass


@pytest.fixture
def change(rng):
    """The change in a slice with odd, unequal sides."""
    return rng.normal(0, 10, (61, 47)).astype(np.float32)


def test_a_neutral_blend_leaves_the_change_bit_for_bit(change):
    np.testing.assert_array_equal(blended(change, Blend()), change)


def test_putting_all_detail_back_returns_the_input(change):
    assert not blended(change, Blend(coarse=1.0, fine=1.0)).any()


def test_equal_shares_act_like_a_lower_strength(change):
    np.testing.assert_allclose(blended(change, Blend(1.0, 0.3, 0.3)), blended(change, Blend(0.7)), atol=1e-5)
    np.testing.assert_allclose(blended(change, Blend(0.5, 0.3, 0.300001)), 0.35 * change, atol=1e-3)


def test_fine_detail_back_leaves_the_coarse_change_and_vice_versa(change):
    without_fine = blended(change, Blend(fine=1.0))
    without_coarse = blended(change, Blend(coarse=1.0))
    np.testing.assert_allclose(without_fine, low_pass(change), atol=1e-5)
    np.testing.assert_allclose(without_fine + without_coarse, change, atol=1e-4)


def test_the_split_is_a_gaussian_of_two_pixels():
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    found = low_pass(point)
    assert found.sum() == pytest.approx(1, abs=1e-5)
    rows = np.arange(41) - 20
    assert np.sqrt((found * rows[:, None] ** 2).sum()) == pytest.approx(SPLIT_PX, rel=0.02)
    constant = np.full((9, 7), 3.0, np.float32)
    np.testing.assert_allclose(low_pass(constant), constant, rtol=1e-5)


def test_non_finite_values_do_not_spread(change):
    change[30, 20] = np.nan
    assert np.isfinite(blended(change, Blend(fine=0.5))).all()


def test_the_record_mentions_detail_back_only_if_there_is_any():
    assert Blend(0.5).as_dict(0.5) == {"strength": 0.25}
    assert Blend(1.0, 0.1, 0.4).as_dict() == {
        "strength": 1.0,
        "detail_back": {"coarse": 0.1, "fine": 0.4, "split_px": 2.0},
    }


def test_shares_outside_of_0_to_1_are_refused():
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        Blend(fine=1.5)
