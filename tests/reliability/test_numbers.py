"""Figures of a slice: those that can be worked out by hand."""

import numpy as np
import pytest

from napari_restore_rwkv.reliability.numbers import (
    Line,
    against_reference,
    contrast_to_noise,
    edge_width,
    in_regions,
    profile,
    region_spectrum,
    without_reference,
)

SPACING = (2.0, 1.0)


def by_name(figures):
    return {figure.name: (figure.before, figure.after, figure.unit) for figure in figures}


def test_figures_against_a_reference_name_range_and_window(rng):
    reference = rng.uniform(0, 100, (32, 32))
    reference[0, :2] = 0, 100
    found = against_reference(reference + 10, reference + 1, reference, "HU", None)
    assert found[0].name == "PSNR, range 100 HU"
    assert (found[0].before, found[0].after) == pytest.approx((20, 40))
    assert found[2].before == pytest.approx(10)
    assert found[3].after == pytest.approx(0.01)
    assert 0 < found[4].before <= found[4].after <= 1
    windowed = against_reference(reference + 10, reference + 1, reference, "HU", (-160, 240))
    assert windowed[0].name == "PSNR, range 100 HU, window -160 to 240"


def test_noise_is_measured_before_and_after(rng):
    noise = rng.normal(0, 20, (128, 128))
    found = by_name(without_reference(40 + noise, 40 + noise / 2, "HU", "CT"))
    before, after, unit = found["noise in flat regions"]
    assert before == pytest.approx(20, rel=0.1)
    assert after == pytest.approx(10, rel=0.1)
    assert unit == "HU"


def test_regions_have_mean_deviation_and_contrast():
    image = np.zeros((20, 20))
    image[::2] = 2.0
    image[:, 10:] += 5
    left, right = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    left[:, :10], right[:, 10:] = True, True
    assert contrast_to_noise(image, left, right) == pytest.approx(5.0)
    found = by_name(in_regions(image, image / 2, [left, right], "HU", 1.0, reference=image))
    assert found["mean of region 2"][:2] == pytest.approx((6.0, 3.0))
    assert found["deviation in region 1"][:2] == pytest.approx((1.0, 0.5))
    assert found["RMSE in region 1"][0] == 0
    assert found["NRMSE in region 2, range 7 HU"][1] == pytest.approx(np.sqrt((2.5**2 + 3.5**2) / 2) / 7)
    assert found["SSIM in region 1, range 7 HU"][0] == found["HaarPSI in region 1, range 7 HU"][0] == 1
    assert found["contrast to noise, 1 and 2"][:2] == pytest.approx((5.0, 5.0))


def test_suv_of_a_region():
    image = np.ones((40, 40))
    image[20, 20] = 9.0
    region = np.zeros((40, 40), bool)
    region[15:26, 15:26] = True
    found = by_name(in_regions(image, image, [region], "SUV", 4.0))
    assert found["SUVmax of region 1"][0] == 9.0
    # The disc of 12.4 mm holds nine pixels of 4 mm.
    assert found["SUVpeak of region 1"][0] == pytest.approx(1 + 8 / 9)


def test_a_profile_is_linear_between_pixels_and_in_mm():
    image = np.arange(100.0).reshape(10, 10)
    distance, values = profile(image, Line((1, 1), (4, 1)), SPACING)
    assert distance[-1] == pytest.approx(6.0)
    np.testing.assert_allclose(values, np.linspace(11, 41, len(values)))


def test_the_width_of_a_ramp_is_that_from_10_to_90_per_cent():
    columns = np.arange(64.0)
    image = np.tile(np.clip((columns - 22) / 20, 0, 1), (8, 1)) * 300
    assert edge_width(image, Line((4, 2), (4, 62)), SPACING) == pytest.approx(16.0, abs=0.1)
    assert edge_width(-image, Line((4, 2), (4, 62)), SPACING) == pytest.approx(16.0, abs=0.1)
    assert np.isnan(edge_width(np.zeros((8, 64)), Line((4, 2), (4, 62)), SPACING))


def test_the_spectrum_of_white_noise_is_flat_and_holds_its_variance(rng):
    region = np.zeros((160, 160), bool)
    region[10:138, 20:148] = True
    image = rng.normal(0, 3, (160, 160)) + np.linspace(0, 50, 160)
    found = region_spectrum(image, region, 0.5)
    assert found.variance == pytest.approx(9, rel=0.1)
    assert found.mean_frequency == pytest.approx(0.383 / 0.5, rel=0.03)
    assert region_spectrum(image, region & (np.arange(160) < 25), 0.5) is None
