import numpy as np
import pytest

from napari_restore_rwkv.simulate.ct import added_noise, low_dose


@pytest.fixture(scope="module")
def water():
    """A cylinder of water, 15 cm across, in air: 96 pixels of 2 mm."""
    grid = np.arange(96) - 47.5
    return np.where(np.hypot(grid[:, None], grid) < 37.5, 0, -1000).astype(np.int16)


def centre(image):
    return image[34:62, 34:62]


def test_the_noise_at_the_centre_has_the_requested_strength(water):
    noise = added_noise(water, 2.0, 35.0, seed=1)
    assert centre(noise).std() == pytest.approx(35, rel=1e-3)


def test_the_noise_has_no_bias(water):
    mean = np.mean([centre(added_noise(water, 2.0, 35.0, seed=seed)).mean() for seed in range(4)])
    assert abs(mean) < 1


def test_noise_is_strongest_where_rays_cross_most_water(water):
    noise = np.stack([added_noise(water, 2.0, 35.0, seed=seed) for seed in range(4)])
    grid = np.arange(96) - 47.5
    radius = np.hypot(grid[:, None], grid)
    inner, outer = noise[:, radius < 14].std(), noise[:, (radius > 30) & (radius < 37)].std()
    assert outer < 0.85 * inner


@pytest.mark.slow
def test_the_noise_spectrum_is_that_of_an_apodised_ramp(water):
    noise = np.stack([added_noise(water, 2.0, 35.0, seed=seed)[32:64, 32:64] for seed in range(8)])
    taper = np.hanning(32)
    tapered = (noise - noise.mean(axis=(1, 2), keepdims=True)) * taper[:, None] * taper
    power = (np.abs(np.fft.fft2(tapered)) ** 2).mean(axis=0)

    frequency = np.fft.fftfreq(32)
    f = np.hypot(frequency[:, None], frequency)
    # Ramp times the squared Hann window, and the linear interpolation of the back-projection.
    expected = f * (0.5 + 0.5 * np.cos(2 * np.pi * f)) ** 2 * np.sinc(f) ** 4
    bands = [(f >= low) & (f < low + 0.05) for low in (0.04, 0.09, 0.14, 0.19, 0.24, 0.29, 0.34)]
    ratio = np.array([power[band].mean() / expected[band].mean() for band in bands])
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.35)


def test_zero_noise_leaves_the_slice_unchanged(water):
    np.testing.assert_allclose(low_dose(water, 2.0, 1e-4, seed=1), water, atol=1e-2)


def test_a_seed_gives_the_same_noise_and_another_seed_another(water):
    first, again, other = (added_noise(water, 2.0, 35.0, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.1


def test_a_slice_that_is_not_square_is_refused_with_a_message():
    with pytest.raises(ValueError, match=r"needs a square slice \(N, N\); got shape \(4, 6\)"):
        added_noise(np.zeros((4, 6)), 1.0, 35.0, seed=0)
