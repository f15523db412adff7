"""Noise of real projections for the training of CT weights."""

import numpy as np
import pytest
from recipes.projected_noise import projected_noise

from napari_restore_rwkv.simulate.ct_kernels import KERNELS

pytestmark = pytest.mark.slow

PIXEL_MM = 2.0


@pytest.fixture(scope="module")
def noise():
    """That of every third of ten slices of a water cylinder, 96 pixels along a side."""
    grid = np.arange(96) - 47.5
    water = np.where(np.hypot(grid[:, None], grid) < 37.5, 0, -1000).astype(np.int16)
    return projected_noise(np.stack([water] * 10), PIXEL_MM, every=3)


def drawn(noise, kernel, count=12, side=96):
    rng = np.random.default_rng(3)
    return np.stack([noise.draw(1, (0, 0), side, PIXEL_MM, KERNELS[kernel], rng) for i in range(count)])


def test_slices_are_taken_evenly_with_two_realisations_each(noise):
    assert noise.slices.tolist() == [1, 4, 7]
    assert noise.realisations.shape == (3, 2, 96, 96)
    assert np.abs(np.corrcoef(*noise.realisations[0].reshape(2, -1).astype(np.float32))[0, 1]) < 0.1


@pytest.mark.parametrize("kernel", ["smooth", "ramp"])
def test_any_kernel_gives_noise_of_strength_1_at_the_centre(noise, kernel):
    centre = drawn(noise, kernel)[..., 34:62, 34:62]
    assert centre.std() == pytest.approx(1, rel=0.05)


def test_slice_and_neighbours_have_independent_noise(noise):
    for four in drawn(noise, "standard"):
        correlations = np.corrcoef(four.reshape(4, -1)) - np.eye(4)
        assert np.abs(correlations).max() < 0.25


def test_the_spectrum_is_that_of_the_kernel(noise):
    kernel, taper = KERNELS["smooth"], np.hanning(48)[:, None] * np.hanning(48)
    pieces = drawn(noise, "smooth", 30)[..., 24:72, 24:72].reshape(-1, 48, 48) * taper
    power = (np.abs(np.fft.fft2(pieces)) ** 2).mean(axis=0)
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(48)] * 2))
    bands = [(f >= low) & (f < low + 0.05) for low in np.arange(0.1, 0.45, 0.05)]
    measured = np.array([power[band].mean() for band in bands])
    theory = np.array([kernel.noise_power(f / PIXEL_MM)[band].mean() for band in bands])
    ratio = (measured / theory)[theory > 0.05 * theory.max()]
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.25)


def test_a_crop_is_the_same_noise_as_the_whole(noise):
    kernel = KERNELS["standard"]
    whole, crop = (
        noise.draw(1, corner, side, PIXEL_MM, kernel, np.random.default_rng(5))
        for corner, side in (((0, 0), 96), ((30, 20), 40))
    )
    np.testing.assert_allclose(crop, whole[:, 30:70, 20:60], atol=0.1)
