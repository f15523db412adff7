import numpy as np
import pytest
from noisy_phantoms import KERNELS, body, distance, noise_of, spectrum_of

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.noise.block_spectra import block_spectra, radial, rings
from napari_restore_rwkv.scans.noise.estimate import estimate_noise, neighbour_correlation, slice_noise
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.ct import added_noise
from napari_restore_rwkv.simulate.mri import low_resolution


def scan_of(voxels, modality="CT"):
    return Scan(np.asarray(voxels, np.float32), (3.0, 1.0, 1.0), modality=modality, unit="HU")


@pytest.mark.parametrize("kernel", [*KERNELS, "white"])
@pytest.mark.parametrize("sigma", [5, 10, 25, 60, 120])
def test_the_noise_of_a_trunk_is_found_within_15_percent(kernel, sigma, rng):
    slices = [body(seed=seed) + sigma * noise_of(kernel, 256, rng) for seed in range(3)]
    found = estimate_noise(scan_of(slices))
    assert found.sigma == pytest.approx(sigma, rel=0.15)
    assert (found.unit, found.slices) == ("HU", (0, 1, 2))


@pytest.mark.parametrize("kernel", [*KERNELS, "white"])
def test_the_spectrum_of_the_noise_is_found(kernel, rng):
    power, f = spectrum_of(kernel, 256), distance(256)
    found = slice_noise(40 + 30 * noise_of(kernel, 256, rng), "CT")
    assert found.sigma == pytest.approx(30, rel=0.05)
    assert found.mean_frequency == pytest.approx((f * power).sum() / power.sum(), abs=0.01)
    assert found.high_share == pytest.approx(power[f > 0.38].sum() / power.sum(), abs=0.03)


@pytest.mark.parametrize("sigma", [10, 50])
def test_noise_through_the_simulated_scanner_is_found(sigma):
    trunk = body(256)
    found = slice_noise(trunk + added_noise(trunk, 1.5, sigma, seed=4), "CT")
    assert found.sigma == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("noise", [10, 40])
def test_the_noise_of_a_magnitude_image_is_found_in_its_air(factor, noise):
    # Every pixel of the head differs from the next: nothing in it is flat.
    texture = np.random.default_rng(1).uniform(500, 1000, (32, 32)).repeat(4, axis=0).repeat(4, axis=1)
    head = np.pad(texture, 32)
    found = slice_noise(low_resolution(head, factor, noise, seed=2), "MR")
    # Truncation rings into the air at four times the pixel.
    assert found.sigma == pytest.approx(noise, rel=0.15 if factor < 4 or noise > 10 else 1.0)


def test_a_masked_background_is_not_taken_for_air_without_noise(rng):
    head = np.zeros((128, 128))
    head[20:108, 20:108] = 500 + rng.normal(0, 20, (88, 88))
    assert slice_noise(head, "MR").sigma == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("stray", [1e300, np.inf, np.nan])
def test_a_value_beyond_float32_does_not_hide_the_noise_of_the_others(stray, modality, rng):
    voxels = rng.normal(40, 20, (3, 64, 64))
    voxels[:, 30, 30] = stray
    assert estimate_noise(Scan(voxels, modality=modality)).sigma == pytest.approx(20, rel=0.15)


def test_noise_among_values_beyond_float32_is_refused(rng):
    with pytest.raises(ScanError, match=r"among values as large as [\d.]+e\+200; divide them by a constant"):
        estimate_noise(Scan(rng.normal(0, 1e200, (3, 64, 64)), modality="CT"))


def test_slices_without_flat_tissue_weigh_less(rng):
    noisy = [body(seed=seed) + 20 * noise_of("soft", 256, rng) for seed in range(2)]
    cluttered = [body(seed=seed, organs=2000) for seed in range(3)]
    assert estimate_noise(scan_of(noisy + cluttered)).sigma == pytest.approx(20, rel=0.15)


def test_a_scan_without_noise_has_none():
    y, x = np.mgrid[:64, :64] - 32
    cylinder = np.where(y**2 + x**2 < 25**2, 40, -1000)
    found = estimate_noise(scan_of([cylinder, cylinder]))
    assert (found.sigma, found.mean_frequency, found.high_share, found.slice_correlation) == (0, 0, 0, 0)
    assert estimate_noise(scan_of([body()])).sigma < 1
    assert estimate_noise(scan_of([np.full((64, 64), 3)])).sigma == 0


def test_nan_values_do_not_matter(rng):
    image = 40 + 20 * noise_of("Hann", 256, rng)
    image[0, :9], image[9, 9] = np.nan, np.inf
    assert slice_noise(image, "CT").sigma == pytest.approx(20, rel=0.1)


def test_slices_too_small_to_measure_are_refused():
    with pytest.raises(ScanError, match="Noise cannot be measured in slices of 8 x 40 pixels; 16 along each side"):
        estimate_noise(scan_of(np.zeros((3, 8, 40))))


@pytest.mark.parametrize("kernel", ["soft", "white"])
def test_independent_noise_is_distinguished_from_shared_noise(kernel, rng):
    noise = np.stack([noise_of(kernel, 256, rng) for _ in range(7)]) * 30
    trunk = body(256)
    independent, overlapping = scan_of(trunk + noise), scan_of(trunk + (noise[1:] + noise[:-1]) / 2)
    assert abs(estimate_noise(independent).slice_correlation) < 0.1
    assert neighbour_correlation(overlapping) == pytest.approx(0.5, abs=0.1)
    assert abs(neighbour_correlation(overlapping, distance=2)) < 0.1


def test_a_single_slice_has_no_neighbour():
    assert estimate_noise(scan_of(np.zeros((1, 16, 16)))).slice_correlation is None
    assert neighbour_correlation(scan_of(np.zeros((1, 16, 16)))) == 0


def test_slices_across_any_axis_are_measured(rng):
    voxels = 40 + 20 * rng.standard_normal((64, 3, 64))
    assert estimate_noise(scan_of(voxels), axis=1).sigma == pytest.approx(20, rel=0.1)


def test_figures_are_plain_values():
    values = estimate_noise(scan_of(np.zeros((2, 16, 16)))).as_dict()
    assert values["slices"] == [0, 1]
    assert values["sigma"] == 0


@pytest.mark.parametrize("side", [8, 16, 24])
def test_the_rings_of_white_noise_have_the_level_and_spread_that_are_promised(side, rng):
    known = rings(side)
    power = radial(np.abs(block_spectra(rng.standard_normal((20_000, side, side)))) ** 2, side)
    np.testing.assert_allclose(power.mean(axis=0), known.kept, atol=0.02)
    # Where the quadratic takes nothing, variance is 2 mean^2 / freedom.
    whole = known.kept > 0.98
    np.testing.assert_allclose(2 / power.var(axis=0)[whole], known.freedom[whole], rtol=0.1)
