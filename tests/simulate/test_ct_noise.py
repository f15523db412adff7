"""CT noise of any kernel: its spectrum against theory, its place against noise that was projected and reconstructed."""

import numpy as np
import pytest

from napari_restore_rwkv.simulate.ct import added_noise
from napari_restore_rwkv.simulate.ct_kernels import KERNELS, Kernel, random_kernel
from napari_restore_rwkv.simulate.ct_noise import NoiseShape, noise_realisation, noise_shape, uniform_shape

PIXEL_MM = 0.8


def ellipse():
    """A trunk of water, twice as wide as high, in air."""
    y, x = np.ogrid[-63.5:64.5, -63.5:64.5]
    return np.where((x / 56) ** 2 + (y / 28) ** 2 < 1, 0, -1000).astype(np.int16)


@pytest.mark.parametrize("name", KERNELS)
def test_the_spectrum_is_that_of_the_kernel(name, rng):
    kernel, side = KERNELS[name], 160
    taper = np.hanning(side)[:, None] * np.hanning(side)
    power = np.zeros((side, side))
    for _ in range(24):
        noise = noise_realisation(uniform_shape(), (side, side), PIXEL_MM, kernel, 20.0, rng)
        power += np.abs(np.fft.fft2(noise * taper)) ** 2 / 24
    f = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2))
    bands = [(f >= low) & (f < low + 0.04) for low in np.arange(0.06, 0.46, 0.04)]
    measured, theory = (np.array([p[band].mean() for band in bands]) for p in (power, kernel.noise_power(f / PIXEL_MM)))
    present = theory > 0.02 * theory.max()
    ratio = measured[present] / theory[present]
    np.testing.assert_allclose(ratio / np.average(ratio, weights=theory[present]), 1, atol=0.1)


@pytest.mark.parametrize("name", ["very smooth", "medium", "ramp"])
def test_the_noise_has_the_requested_strength(name, rng):
    noise = [noise_realisation(uniform_shape(), (200, 150), PIXEL_MM, KERNELS[name], 35.0, rng) for _ in range(8)]
    assert np.std(noise) == pytest.approx(35, rel=0.02)
    assert abs(np.mean(noise)) < 0.5


@pytest.mark.slow
def test_it_is_strong_where_projected_noise_is_and_in_the_same_direction(rng):
    scan = ellipse()
    shape = noise_shape(scan, 2.0, counts=1e6)
    quick = np.stack([noise_realisation(shape, scan.shape, 2.0, KERNELS["medium"], 30.0, rng) for _ in range(16)])
    slow = np.stack([added_noise(scan, 2.0, 30.0, seed=seed) for seed in range(16)])

    def blocks(noise):
        return np.sqrt((noise**2).mean(axis=0).reshape(16, 8, 16, 8).mean(axis=(1, 3)))[2:-2, 2:-2]

    assert np.corrcoef(blocks(quick).ravel(), blocks(slow).ravel())[0, 1] > 0.97

    def vertical_share(noise):
        power = (np.abs(np.fft.fft2(noise[:, 40:88, 40:88])) ** 2).mean(axis=0)
        fy, fx = np.abs(np.meshgrid(*[np.fft.fftfreq(48)] * 2, indexing="ij"))
        return power[fy > 2 * fx].sum() / power[fx > 2 * fy].sum()

    # Rays along the width of the body are attenuated most: its noise varies from top to bottom.
    assert vertical_share(slow) > 1.5
    assert vertical_share(quick) == pytest.approx(vertical_share(slow), rel=0.3)


def test_a_crop_has_the_noise_of_its_place(rng):
    shape = noise_shape(ellipse(), 2.0)
    crop = shape.crop(0.4, 0.4, 0.2, 0.2)
    inner = shape.variance.sum(axis=0)[26:38, 26:38]
    assert crop.variance.sum(axis=0).mean() == pytest.approx(inner.mean(), rel=0.03)


def test_a_generator_gives_the_same_noise_again():
    first, again = (
        noise_realisation(uniform_shape(), (32, 32), 1.0, KERNELS["smooth"], 9.0, np.random.default_rng(4))
        for _ in "ab"
    )
    np.testing.assert_array_equal(first, again)


def test_kernels_are_drawn_from_soft_to_sharp(rng):
    drawn = [random_kernel(rng) for _ in range(300)]
    mean_frequencies = []
    f = np.linspace(0, 0.7, 200)
    for kernel in drawn:
        power = kernel.noise_power(f) * f
        mean_frequencies.append((f * power).sum() / power.sum())
    assert min(mean_frequencies) < 0.2
    assert max(mean_frequencies) > 0.45


@pytest.mark.parametrize(("half", "steepness", "boost"), [(0, 2, 0), (0.5, -1, 0), (0.5, 2, -0.1), (np.nan, 2, 0)])
def test_an_impossible_kernel_is_refused(half, steepness, boost):
    with pytest.raises(ValueError, match="half > 0, steepness > 0 and boost >= 0"):
        Kernel(half, steepness, boost)


def test_a_slice_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match=r"square slice.*\(20, 30\)"):
        noise_shape(np.zeros((20, 30)), 1.0)


def test_uniform_noise_is_as_strong_in_every_direction():
    assert isinstance(uniform_shape(), NoiseShape)
    np.testing.assert_allclose(uniform_shape().variance.sum(axis=0), 1)
