"""The figures of merit against scikit-image, by hand, and on slices that have none."""

import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.metrics import Evaluation, SliceScore, evaluate, nrmse, psnr, rmse, ssim


@pytest.fixture
def pair(rng):
    """A noisy slice and its reference in HU, of odd, unequal sides."""
    y, x = np.mgrid[:61, :47]
    reference = 300 * np.sin(x / 9) * np.cos(y / 7) - 200
    return reference + rng.normal(0, 30, reference.shape), reference


@pytest.mark.parametrize("shape", [(11, 11), (12, 40), (61, 47)])
def test_ssim_is_that_of_scikit_image(pair, shape):
    image, reference = (array[: shape[0], : shape[1]] for array in pair)
    expected = structural_similarity(
        image,
        reference,
        data_range=np.ptp(reference),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-6)


def test_ssim_takes_a_data_range_and_a_window_like_scikit_image(pair):
    image, reference = (np.clip(array, -160, 240) for array in pair)
    expected = structural_similarity(
        image, reference, data_range=400, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(*pair, 400, window=(-160, 240)) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_integers_does_not_overflow(pair):
    image, reference = (array.astype(np.int16) for array in pair)
    assert ssim(image, reference) == ssim(image.astype(float), reference.astype(float))


def test_psnr_is_that_of_scikit_image_with_the_range_of_the_reference(pair):
    image, reference = pair
    expected = peak_signal_noise_ratio(reference, image, data_range=np.ptp(reference))
    assert psnr(image, reference) == pytest.approx(expected, abs=1e-9)


def test_figures_by_hand():
    reference = np.array([[0.0, 100.0], [50.0, 50.0]])
    image = reference + 10
    assert rmse(image, reference) == 10
    assert nrmse(image, reference) == pytest.approx(0.1)
    assert psnr(image, reference) == pytest.approx(20)
    assert psnr(image, reference, data_range=1000) == pytest.approx(40)


def test_the_window_is_applied_to_both_before_the_range_is_taken():
    reference = np.array([[-1000.0, 0.0], [100.0, 3000.0]])
    image = np.array([[-900.0, 0.0], [100.0, 2000.0]])
    assert rmse(image, reference) > 400
    assert rmse(image, reference, window=(-160, 240)) == 0
    shifted = np.array([[-1000.0, 40.0], [100.0, 3000.0]])
    # Truncated, the reference spans 400 HU and one of four pixels is 40 HU off: RMSE 20 HU.
    assert psnr(shifted, reference, window=(-160, 240)) == pytest.approx(20 * math.log10(400 / 20))


def test_identical_slices_give_infinite_psnr_and_ssim_one(pair):
    _, reference = pair
    assert psnr(reference, reference) == math.inf
    assert ssim(reference, reference) == 1
    assert nrmse(reference, reference) == 0


def test_a_constant_reference_has_no_psnr_ssim_or_nrmse():
    reference = np.full((16, 16), 7.0)
    for figure in (psnr, ssim, nrmse):
        assert math.isnan(figure(reference + 1, reference))
    assert rmse(reference + 1, reference) == 1
    assert psnr(reference, reference) == math.inf
    assert ssim(reference, reference) == 1


def test_a_slice_smaller_than_the_window_has_no_ssim():
    reference = np.arange(15.0).reshape(3, 5)
    assert math.isnan(ssim(reference + 1, reference))
    assert psnr(reference + 1, reference) == pytest.approx(20 * math.log10(14))


def test_nan_voxels_make_the_slice_undefined_not_an_error(pair):
    image, reference = pair[0].copy(), pair[1]
    image[3, 4] = np.nan
    assert all(math.isnan(figure(image, reference)) for figure in (psnr, ssim, rmse, nrmse))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("side", [0, 1])
def test_a_voxel_that_is_not_finite_or_overflows_makes_the_slice_undefined(pair, value, side):
    arrays = [pair[0].copy(), pair[1].copy()]
    arrays[side][3, 4] = value
    assert all(math.isnan(figure(*arrays)) for figure in (psnr, rmse, nrmse))
    sound = evaluate(*pair).mean
    both = evaluate(np.stack([arrays[0], pair[0]]), np.stack([arrays[1], pair[1]])).mean
    assert [both[name] for name in ("psnr", "rmse", "nrmse")] == [sound[name] for name in ("psnr", "rmse", "nrmse")]


def test_an_identical_slice_does_not_make_the_mean_infinite(pair):
    image, reference = pair
    result = evaluate(np.stack([image, reference]), np.stack([reference, reference]))
    assert result.slices[1].psnr == math.inf
    assert result.mean["psnr"] == result.slices[0].psnr


def test_the_mean_of_identical_scans_stays_infinite(pair):
    _, reference = pair
    assert evaluate(np.stack([reference] * 2), np.stack([reference] * 2)).mean["psnr"] == math.inf


def test_slices_are_scored_one_by_one_and_averaged(pair):
    image, reference = pair
    restored = np.stack([image, reference + 2])
    result = evaluate(restored, np.stack([reference, reference]))
    assert len(result.slices) == 2
    assert result.slices[0].psnr == psnr(image, reference)
    assert result.slices[1].rmse == pytest.approx(2)
    assert result.mean["psnr"] == pytest.approx((result.slices[0].psnr + result.slices[1].psnr) / 2)
    assert result.mean["ssim"] == pytest.approx((result.slices[0].ssim + result.slices[1].ssim) / 2)


def test_a_slice_of_air_does_not_spoil_the_mean(pair):
    image, reference = pair
    air = np.full_like(reference, -1000)
    result = evaluate(np.stack([image, air + 1]), np.stack([reference, air]))
    assert math.isnan(result.slices[1].psnr)
    assert result.mean["psnr"] == result.slices[0].psnr


def test_a_single_slice_is_a_scan_of_one(pair):
    assert evaluate(*pair).slices == evaluate(pair[0][None], pair[1][None]).slices


def test_the_figures_are_valid_json_even_where_infinite_or_undefined(pair):
    _, reference = pair
    air = np.full_like(reference, -1000)
    figures = evaluate(np.stack([reference, air + 1]), np.stack([reference, air]), (-1024, 3072)).as_dict()
    back = json.loads(json.dumps(figures, allow_nan=False))
    assert back["slices"][0]["psnr"] == "inf"
    assert back["slices"][1]["psnr"] is None
    assert back["window"] == [-1024, 3072]


def test_an_infinite_figure_keeps_its_sign_in_json():
    score = SliceScore(psnr=-math.inf, ssim=1.0, rmse=0.0, nrmse=0.0, data_range=math.inf)
    (figures,) = Evaluation((score,)).as_dict()["slices"]
    assert (figures["psnr"], figures["data_range"]) == ("-inf", "inf")


def test_scans_of_different_size_are_refused_with_both_sizes():
    with pytest.raises(ScanError, match=r"2 x 16 x 16 voxels and the reference 3 x 16 x 16: choose two"):
        evaluate(np.zeros((2, 16, 16)), np.zeros((3, 16, 16)))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 8, 8)])
def test_what_is_not_a_stack_of_slices_is_refused(shape):
    with pytest.raises(ScanError, match=r"is not a scan: give \(Z, Y, X\) voxels or one \(Y, X\) slice"):
        evaluate(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("window", [(240, -160), (0, math.inf), (-math.inf, 0), (math.nan, 1)])
def test_a_window_that_is_empty_or_endless_is_refused(window):
    with pytest.raises(
        ValueError, match=f"The window {window[0]:g} to {window[1]:g} is empty or does not have finite ends"
    ):
        evaluate(np.zeros((16, 16)), np.zeros((16, 16)), window)


def test_ssim_inside_is_the_mean_of_the_windows_there(pair):
    image, reference = pair
    _, everywhere = structural_similarity(
        image,
        reference,
        data_range=np.ptp(reference),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = np.zeros(reference.shape, bool)
    inside[20:30, 10:25] = True
    assert ssim(image, reference, inside=inside) == pytest.approx(everywhere[inside].mean(), abs=1e-6)
    assert math.isnan(ssim(image, reference, inside=np.zeros_like(inside)))
