"""Each measure on images whose answer is known, and on images with the fault that it is for."""

import math

import numpy as np
import pytest
from scipy.signal import periodogram
from scipy.special import i0e, i1e
from scipy.stats import mannwhitneyu, norm

from napari_restore_rwkv.image_quality.contrast import contrast_kept, disc, values_in
from napari_restore_rwkv.image_quality.noise_spectrum import noise_spectrum
from napari_restore_rwkv.image_quality.observer import detectability, laguerre_gauss
from napari_restore_rwkv.image_quality.sharpness import Transfer, edge_transfer
from napari_restore_rwkv.image_quality.uptake import (
    background_variability,
    recovery,
    suv_max,
    suv_peak,
)

SIDE = 128


def blurred(images, sigma):
    """A Gaussian of so many pixels over the last two axes, exact at every frequency of the images."""
    f = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE))
    return np.fft.ifft2(np.fft.fft2(images) * np.exp(-2 * (np.pi * sigma * f) ** 2)).real


def test_the_identity_keeps_all_contrast_and_a_filter_that_returns_the_mean_none(rng):
    noise, probe = rng.normal(0, 20, (SIDE, SIDE)), 5 * disc((SIDE, SIDE), (63, 60), 11)
    assert contrast_kept(noise + probe, noise, probe) == pytest.approx(1)
    assert contrast_kept(noise, noise, probe) == 0


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_a_blur_keeps_the_contrast_that_theory_says(sigma, rng):
    noise, probe = rng.normal(0, 20, (SIDE, SIDE)), 5 * disc((SIDE, SIDE), (63, 60), 44)
    kept = contrast_kept(blurred(noise + probe, sigma), blurred(noise, sigma), probe)
    # Of a disc of radius R under a Gaussian: 1 - exp(-q) (I0(q) + I1(q)), q = R^2 / sigma^2.
    q = 22**2 / sigma**2
    assert kept == pytest.approx(1 - i0e(q) - i1e(q), rel=0.02)


def test_a_disc_has_its_area():
    assert disc((64, 64), (30.3, 31.8), 11).sum() == pytest.approx(math.pi * 5.5**2, rel=0.01)


def test_bias_uniformity_and_noise_are_told_apart(rng):
    regions = [disc((SIDE, SIDE), centre, 30) > 0.99 for centre in ((64, 64), (30, 30), (95, 95))]
    image = 42 + rng.normal(0, 3, (SIDE, SIDE))
    found = values_in(image, regions, 40)
    assert found.bias == pytest.approx(2, abs=0.5)
    assert found.uniformity < 1
    assert found.noise == pytest.approx(3, rel=0.1)
    image[regions[1]] += 6
    assert values_in(image, regions, 40).uniformity == pytest.approx(6, abs=1)


def test_the_spectrum_of_white_noise_is_flat_and_its_integral_the_variance(rng):
    images = rng.normal(0, 7, (20, SIDE, SIDE))
    spectrum = noise_spectrum(images + 30, 0.5)
    assert spectrum.variance == pytest.approx(49, rel=0.02)
    assert spectrum.mean_frequency == pytest.approx(0.3826 / 0.5, rel=0.02)
    assert spectrum.share_above(0.38 / 0.5) == pytest.approx(1 - math.pi * 0.38**2, abs=0.02)
    _, radial = spectrum.radial()
    np.testing.assert_allclose(radial[8:], 49 * 0.25, rtol=0.15)


def test_the_spectrum_agrees_with_that_of_scipy(rng):
    images = blurred(rng.normal(0, 7, (6, SIDE, SIDE)), 1.0)
    ours = noise_spectrum(images)
    # Along one axis alone, two-sided: the spectrum of scipy is the sum of ours over the other axis.
    rest = (images - images.mean(axis=0)) * np.sqrt(6 / 5)
    _, theirs = periodogram(rest, axis=-1, detrend=False, return_onesided=False)
    np.testing.assert_allclose(ours.power.mean(axis=0), theirs.mean(axis=(0, 1)), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.7, 1.2])
def test_a_blur_changes_the_spectrum_as_theory_says(sigma, rng):
    images = rng.normal(0, 7, (40, SIDE, SIDE))
    before, after = noise_spectrum(images), noise_spectrum(blurred(images, sigma))
    gain = np.exp(-((2 * np.pi * sigma * before.distance) ** 2))
    assert after.variance / before.variance == pytest.approx(gain.mean(), rel=0.02)
    assert after.mean_frequency == pytest.approx((gain * before.distance).sum() / gain.sum(), rel=0.02)


def test_a_peak_of_the_spectrum_is_found(rng):
    ripple = np.cos(2 * np.pi * 0.25 * np.arange(SIDE))
    images = rng.normal(0, 1, (10, SIDE, SIDE)) + rng.normal(0, 3, (10, 1, 1)) * ripple
    frequencies, power = noise_spectrum(images, 2.0).radial()
    assert frequencies[np.argmax(power)] == pytest.approx(0.125, abs=0.005)


def test_one_realisation_has_no_spectrum():
    with pytest.raises(ValueError, match="give two or more, got 1"):
        noise_spectrum(np.zeros((1, 8, 8)))


def gain(after, before):
    """What a filter does to the sharpness of its input, where that is above 0.02."""
    usable = np.cumprod(before.values > 0.02).astype(bool)
    return Transfer(before.frequencies[usable], after.values[usable] / before.values[usable])


@pytest.mark.parametrize("sigma", [1.0, 1.6, 2.5])
@pytest.mark.parametrize("contrast", [-100, 1000])
def test_a_blur_changes_the_transfer_as_theory_says(sigma, contrast):
    rod = contrast * disc((SIDE, SIDE), (63.4, 62.7), 50)
    before = edge_transfer(rod, (63.4, 62.7), 25, 14)
    after = gain(edge_transfer(blurred(rod, sigma), (63.4, 62.7), 25, 14), before)
    assert after.at(0.5) == pytest.approx(math.sqrt(math.log(2) / 2) / (math.pi * sigma), rel=0.02)
    assert after.at(0.1) == pytest.approx(math.sqrt(math.log(10) / 2) / (math.pi * sigma), rel=0.02)


def test_the_identity_leaves_the_transfer_and_sharpening_raises_it():
    rod = 100 * disc((SIDE, SIDE), (63.4, 62.7), 50)
    before = edge_transfer(rod, (63.4, 62.7), 25, 14)
    np.testing.assert_allclose(gain(before, before).values, 1)
    sharper = gain(edge_transfer(2 * rod - blurred(rod, 1), (63.4, 62.7), 25, 14), before)
    assert sharper.values.max() > 1.3


def white_pairs(signal, count, rng, deviation):
    noise = rng.normal(0, deviation, (count, *signal.shape))
    return noise + signal, noise


@pytest.mark.parametrize("strength", [0.1, 0.25])
@pytest.mark.parametrize("internal_noise", [0.0, 1.0])
def test_the_observer_agrees_with_theory_on_white_noise(strength, internal_noise, rng):
    width, side = 12.0, 33
    channels = laguerre_gauss(side, width)
    signal = strength * (channels[:, 0] / channels[:, 0].max()).reshape(side, side)
    present, absent = white_pairs(signal, 200, rng, 1.0)
    found = detectability(present, absent, channels, internal_noise=internal_noise)
    # The signal lies in the channels, so the ideal observer has d' = |s| / sigma, and noise of its own adds to that.
    d = np.linalg.norm(signal) / math.sqrt(1 + internal_noise**2)
    assert found.low <= norm.cdf(d / math.sqrt(2)) <= found.high
    assert found.high - found.low < 0.25


def test_the_area_under_the_curve_is_that_of_the_rank_test_of_scipy(rng):
    channel = laguerre_gauss(33, 12.0, count=1)
    signal = (channel[:, 0] / channel[:, 0].max()).reshape(33, 33)
    present, absent = white_pairs(0.2 * signal, 200, rng, 1.0)
    # With one channel the template is its sign, and the observer's response the channel itself.
    seen, empty = ((pairs[100:].reshape(100, -1) @ channel)[:, 0] for pairs in (present, absent))
    rank = mannwhitneyu(seen, empty).statistic / (len(seen) * len(empty))
    assert detectability(present, absent, channel).auc == pytest.approx(rank)
    assert 0.6 < rank < 0.95


def test_an_observer_guesses_at_nothing_and_is_certain_of_what_is_strong(rng):
    channels = laguerre_gauss(33, 12.0)
    present, absent = rng.normal(size=(2, 400, 33, 33))
    guessed = detectability(present, absent, channels)
    assert guessed.low <= 0.5 <= guessed.high
    present, absent = white_pairs(2 * disc((33, 33), (16, 16), 9), 400, rng, 1.0)
    assert detectability(present, absent, channels).auc > 0.99


def test_channels_are_what_they_are_called():
    channels = laguerre_gauss(65, 14.0)
    np.testing.assert_allclose(channels.T @ channels, np.eye(6), atol=1e-3)


def test_too_few_pairs_for_an_observer_are_refused(rng):
    present, absent = white_pairs(np.zeros((33, 33)), 12, rng, 1.0)
    with pytest.raises(ValueError, match="6 channels needs more than 12 pairs; got 12"):
        detectability(present, absent, laguerre_gauss(33, 12.0))


def test_uptake_is_measured_as_it_was_put_in():
    hot, background = disc((64, 64), (32, 32), 15) == 1, disc((64, 64), (12, 12), 15) == 1
    image = np.where(disc((64, 64), (32, 32), 20) > 0, 8.0, 2.0)
    assert recovery(image, hot, 8) == 1
    image[32, 32] = 20
    assert suv_max(image, hot) == 20
    # Of the pixels within 6.2 mm of its centre, one is the hot one.
    assert suv_peak(image, hot, 2.0) == pytest.approx(8 + 12 / 29)
    assert suv_max(image, background) == suv_peak(image, background, 2.0) == 2


def test_background_variability_is_that_of_the_means():
    regions = [disc((64, 64), (12, x), 10) == 1 for x in (10, 30, 50)]
    image = np.ones((64, 64))
    assert background_variability(image, regions) == 0
    for factor, region in zip((0.9, 1.0, 1.1), regions, strict=True):
        image[region] = factor
    assert background_variability(image, regions) == pytest.approx(0.1)
