import numpy as np
import pytest
from phantom import noisy_scan, scan_of

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.simulate.whole_scan import simulate
from napari_restore_rwkv.training.noise import (
    fit_strength,
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


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_strength_of_simulated_noise_is_recovered(strength):
    good = cylinder()
    noisy = finish(simulate(good, "ct-denoise", seed=5, strength=strength))
    fit = fit_strength(good, noisy, "ct-denoise")
    assert fit.strength == pytest.approx(strength, rel=0.15)
    assert fit.reached == pytest.approx(fit.wanted, rel=0.1)


def test_a_strength_cannot_be_fitted_to_a_scan_with_less_noise():
    with pytest.raises(ScanError, match="there is nothing to add"):
        fit_strength(noisy_scan(cylinder()), cylinder(), "ct-denoise")


def test_a_loss_of_resolution_cannot_be_fitted_to_noise():
    with pytest.raises(ScanError, match="cannot be estimated from the noise of a scan; give its strength"):
        fit_strength(cylinder(), noisy_scan(cylinder()), "mri-sr")


def test_a_preview_of_the_degradation_gets_worse_with_its_strength():
    good = cylinder()
    weak, strong = (preview_degradation(good, 1, "ct-denoise", strength) for strength in (0.5, 2))
    assert weak.shape == good.shape[1:]
    assert 0 < np.std(weak - good.voxels[1]) < np.std(strong - good.voxels[1])
