import numpy as np
import pytest

from napari_restore_rwkv.simulate.mri import kept_block, low_resolution, resampled


@pytest.fixture
def head(rng):
    """A bright ellipse with blobs in it, in the dark: 60 x 48 pixels."""
    y, x = np.mgrid[:60, :48]
    image = 100.0 * ((y - 30) ** 2 / 22**2 + (x - 24) ** 2 / 16**2 < 1)
    for row, column in rng.integers(15, 33, (6, 2)):
        image += 40 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return image


def test_factor_one_without_noise_returns_the_image(head):
    np.testing.assert_allclose(low_resolution(head, 1), head, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 2.7, 4, (1, 3)])
def test_a_band_limited_image_is_unchanged(factor):
    """A bump far smoother than the block can hold: a shift by a fraction of a pixel would show."""
    y, x = np.mgrid[:64, :80]
    bump = 7 + 50 * np.exp(-((y - 31) ** 2 + (x - 42) ** 2) / 2 / 5**2)
    np.testing.assert_allclose(low_resolution(bump, factor), bump, atol=0.02)


def test_the_small_image_of_the_block_lies_on_every_fourth_sample(head):
    zero_filled = low_resolution(head, 4)
    block = np.fft.fftshift(np.fft.fft2(head))[30 - 7 : 30 + 8, 24 - 6 : 24 + 6]
    small = np.abs(np.fft.ifft2(np.fft.ifftshift(block))) * block.size / head.size
    np.testing.assert_allclose(zero_filled[::4, ::4], small, atol=1e-3)


def test_the_number_of_kept_coefficients_is_rounded():
    rows, columns = kept_block((256, 100), (3, 2.2))
    assert sorted(rows.ravel()) == list(range(-42, 43))
    assert sorted(columns.ravel()) == list(range(-22, 23))


def test_an_even_block_reaches_one_further_down_than_up():
    rows, _ = kept_block((64, 64), 4)
    assert (rows.min(), rows.max()) == (-8, 7)


def test_the_mean_stays_for_a_bright_image(head):
    assert low_resolution(head + 200, 3).mean() == pytest.approx((head + 200).mean(), rel=1e-3)


@pytest.mark.parametrize("factor", [1, 2, (1, 4)])
def test_the_noise_of_a_bright_image_has_the_requested_strength(factor):
    noise = low_resolution(np.full((96, 96), 1000.0), factor, 3.0, seed=1) - 1000
    kept = np.prod([index.size for index in kept_block((96, 96), factor)])
    # One real coefficient each: the relative error of a deviation from n values is 1 / sqrt(2 n).
    assert noise.std() == pytest.approx(3.0, rel=4 / np.sqrt(2 * kept))


def test_the_noise_lies_in_the_kept_block_and_is_white_there():
    noise = np.stack([low_resolution(np.full((64, 64), 1e4), 2, 3.0, seed=s) - 1e4 for s in range(60)])
    power = (np.abs(np.fft.fft2(noise, norm="ortho")) ** 2).mean(axis=0)
    frequency = np.abs(np.fft.fftfreq(64) * 64)
    radius = np.maximum(frequency[:, None], frequency)
    expected = 3.0**2 * 4
    for low, high in ((1, 4), (4, 8), (8, 12), (12, 16)):
        inside = (radius >= low) & (radius < high)
        assert power[inside].mean() == pytest.approx(expected, rel=0.06)
    assert power[radius > 16].max() < 1e-3 * expected


def test_dark_regions_are_rayleigh_distributed():
    dark = low_resolution(np.zeros((128, 128)), 2, 3.0, seed=4)
    assert dark.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.03)
    assert dark.std() == pytest.approx(3 * np.sqrt(2 - np.pi / 2), rel=0.05)


def test_a_seed_gives_the_same_noise_and_another_seed_another(head):
    first, again, other = (low_resolution(head, 2, 1.0, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_finer_grid_passes_through_the_samples_and_keeps_the_mean(head):
    # Odd sides: no lone coefficient.
    image = head[:59, :47] + 200
    finer = resampled(image, (118, 141))
    np.testing.assert_allclose(finer[::2, ::3], image, atol=1e-2)
    assert finer.mean() == pytest.approx(image.mean(), rel=1e-4)


def test_a_coarser_grid_keeps_brightness():
    y, x = np.mgrid[:64, :64]
    bump = 7 + 50 * np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / 2 / 8**2)
    np.testing.assert_allclose(resampled(bump, (32, 32)), bump[::2, ::2], atol=0.02)


@pytest.mark.parametrize(
    ("shape", "factor", "noise", "words"),
    [
        ((8, 8), 0.5, 0, r"from 1 to 8, the length of the axis; got 0.5"),
        ((8, 9), (2, 10), 0, r"from 1 to 9, the length of the axis; got 10"),
        ((8, 8), float("nan"), 0, r"got nan"),
        ((2, 8, 8), 2, 0, r"slice by slice, \(Y, X\); got shape \(2, 8, 8\)"),
        ((8, 8), 2, -1, r"0 or more; got -1"),
        ((8, 8), 2, float("inf"), r"0 or more; got inf"),
    ],
)
def test_impossible_requests_are_refused_with_a_message(shape, factor, noise, words):
    with pytest.raises(ValueError, match=words):
        low_resolution(np.ones(shape), factor, noise)
