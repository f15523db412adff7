import numpy as np
import pytest
from phantom import noisy_scan, scan_of

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.simulate.whole_scan import simulate
from napari_restore_rwkv.training.noise import (
    box_mean,
    fit_strength,
    neighbour_correlation,
    noise_level,
    preview_degradation,
)


def cylinder(slices=3, side=64):
    y, x = np.mgrid[:side, :side] - side / 2
    return scan_of(np.broadcast_to(np.where(y**2 + x**2 < (0.4 * side) ** 2, 40, -1000), (slices, side, side)))


@pytest.mark.parametrize("deviation", [10, 40])
def test_the_noise_of_homogeneous_regions_is_measured(deviation):
    scan = noisy_scan(cylinder(), deviation)
    assert noise_level(scan) == pytest.approx(deviation, rel=0.15)


def test_edges_are_not_taken_for_noise():
    assert noise_level(cylinder()) == 0


def test_slices_too_small_to_measure_are_refused():
    with pytest.raises(ScanError, match="Noise cannot be measured in slices of 8 x 40 pixels"):
        noise_level(scan_of(np.zeros((3, 8, 40))))


def test_independent_noise_is_told_from_shared_noise(rng):
    noise = rng.normal(0, 40, (13, 64, 64))
    independent, overlapping = scan_of(noise), scan_of((noise[1:] + noise[:-1]) / 2)
    assert abs(neighbour_correlation(independent)) < 0.05
    assert neighbour_correlation(overlapping) == pytest.approx(0.5, abs=0.08)
    assert abs(neighbour_correlation(overlapping, distance=2)) < 0.05


def test_a_scan_without_noise_or_neighbours_has_no_correlation():
    assert neighbour_correlation(scan_of(np.full((4, 16, 16), 3))) == 0
    assert neighbour_correlation(scan_of(np.zeros((1, 16, 16)))) == 0


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_strength_of_simulated_noise_is_found_again(strength):
    good = cylinder()
    noisy = finish(simulate(good, "ct-denoise", seed=5, strength=strength))
    fit = fit_strength(good, noisy, "ct-denoise")
    assert fit.strength == pytest.approx(strength, rel=0.15)
    assert fit.reached == pytest.approx(fit.wanted, rel=0.1)


def test_a_strength_cannot_be_fitted_to_a_scan_with_less_noise():
    with pytest.raises(ScanError, match="there is nothing to add"):
        fit_strength(noisy_scan(cylinder()), cylinder(), "ct-denoise")


def test_a_loss_of_resolution_cannot_be_fitted_to_noise():
    with pytest.raises(ScanError, match="cannot be read off the noise of a scan; give its strength"):
        fit_strength(cylinder(), noisy_scan(cylinder()), "mri-sr")


def test_a_preview_of_the_degradation_gets_worse_with_its_strength():
    good = cylinder()
    weak, strong = (preview_degradation(good, 1, "ct-denoise", strength) for strength in (0.5, 2))
    assert weak.shape == good.shape[1:]
    assert 0 < np.std(weak - good.voxels[1]) < np.std(strong - good.voxels[1])


def test_box_means_are_means_of_squares(rng):
    image = rng.normal(size=(9, 11))
    smooth = box_mean(image, 2)
    assert smooth.shape == image.shape
    assert smooth[4, 5] == pytest.approx(image[2:7, 3:8].mean())
    np.testing.assert_allclose(box_mean(np.full((5, 5), 3.0)), 3.0)
