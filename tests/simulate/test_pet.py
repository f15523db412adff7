import numpy as np
import pytest
import torch

from napari_restore_rwkv.simulate.pet import Acquisition, gaussian, low_count, only_low_counts, osem, thinned, views_for
from napari_restore_rwkv.simulate.projector import project, view_angles

pytestmark = pytest.mark.slow

PIXEL_MM = 4.0


@pytest.fixture(scope="module")
def body():
    """A body of SUV 1 with a hot spot of 8 and a cold one, 48 pixels of 4 mm."""
    y, x = np.mgrid[:48, :48] - 23.5
    activity = 1.0 * (np.hypot(y / 18, x / 20) < 1)
    activity[np.hypot(y - 5, x + 6) < 3.5] = 8
    activity[np.hypot(y + 6, x - 6) < 4] = 0
    return activity.astype(np.float32)


def test_thinning_keeps_the_mean_and_stays_poisson(rng):
    full = rng.poisson(40.0, 20000)
    fewer = thinned(full, 8, rng)
    assert fewer.mean() == pytest.approx(5, rel=0.02)
    assert fewer.var() == pytest.approx(5, rel=0.05)
    assert (fewer <= full).all()


def test_thinned_counts_are_independent_of_the_discarded_ones(rng):
    full = rng.poisson(40.0, 20000)
    fewer = thinned(full, 4, rng)
    assert abs(np.corrcoef(fewer, full - fewer)[0, 1]) < 0.03


def test_without_noise_many_iterations_approach_the_blurred_activity(body):
    angles = view_angles(views_for(48))
    blurred = gaussian(torch.from_numpy(body), 6.0 / PIXEL_MM)
    image = osem(project(blurred, angles, PIXEL_MM), angles, PIXEL_MM, iterations=25)
    error = (image - blurred)[4:-4, 4:-4]
    assert error.square().mean().sqrt() < 0.02
    assert error.abs().max() < 0.25


def test_more_iterations_come_closer(body):
    angles = view_angles(views_for(48))
    sinogram = project(torch.from_numpy(body), angles, PIXEL_MM)
    errors = [(osem(sinogram, angles, PIXEL_MM, iterations=n) - torch.from_numpy(body)).norm() for n in (1, 3, 9)]
    assert errors[2] < errors[1] < errors[0]


def test_attenuation_in_the_model_is_undone(body):
    angles = view_angles(views_for(48))
    factors = torch.exp(-project(0.0096 * torch.from_numpy(body > 0).float(), angles, PIXEL_MM))
    sinogram = project(torch.from_numpy(body), angles, PIXEL_MM)
    plain = osem(sinogram, angles, PIXEL_MM, iterations=8)
    corrected = osem(factors * sinogram, angles, PIXEL_MM, factors=factors, iterations=8)
    inside = body == 1
    assert corrected[inside].mean() == pytest.approx(float(plain[inside].mean()), rel=0.02)


def test_a_reconstruction_explains_all_counts(body):
    angles = view_angles(views_for(48))
    sinogram = torch.poisson(5 * project(torch.from_numpy(body), angles, PIXEL_MM))
    image = osem(sinogram, angles, PIXEL_MM, iterations=4)
    assert project(image, angles, PIXEL_MM).sum() == pytest.approx(float(sinogram.sum()), rel=0.01)


def test_low_and_full_count_keep_the_activity(body):
    low, full = low_count(body, PIXEL_MM, Acquisition(counts=4e5), seed=1)
    assert full.sum() == pytest.approx(body.sum(), rel=0.03)
    assert low.sum() == pytest.approx(body.sum(), rel=0.03)
    assert full[np.abs(full - 1) < 3].dtype == np.float32


def test_fewer_counts_are_noisier_by_about_the_root_of_the_dose(body):
    water = (body > 0).astype(np.float32)
    flat = np.zeros((48, 48), bool)
    flat[14:34, 14:34] = True
    quick = {"counts": 3e6, "iterations": 2}
    deviation = []
    for reduction in (4, 16):
        images = [
            low_count(water, PIXEL_MM, Acquisition(dose_reduction=reduction, **quick), seed=s)[0] for s in range(6)
        ]
        deviation.append(np.std(images, axis=0)[flat].mean())
    assert deviation[1] / deviation[0] == pytest.approx(2, rel=0.25)


def test_slices_of_a_batch_are_reconstructed_as_alone(body):
    pair = np.stack([body, body[::-1]])
    angles = view_angles(40)
    sinograms = project(torch.from_numpy(pair.copy()), angles, PIXEL_MM)
    together = osem(sinograms, angles, PIXEL_MM)
    torch.testing.assert_close(together[1], osem(sinograms[1], angles, PIXEL_MM), rtol=1e-3, atol=1e-4)


def test_a_dim_slice_beside_a_bright_one_is_reconstructed_as_alone(body):
    angles = view_angles(40)
    sinogram = project(torch.from_numpy(body), angles, PIXEL_MM)
    dim = osem(torch.stack([sinogram, 1e-7 * sinogram]), angles, PIXEL_MM)[1]
    torch.testing.assert_close(1e7 * dim, osem(sinogram, angles, PIXEL_MM), rtol=1e-3, atol=1e-4)


def test_a_large_slice_is_reconstructed_alone_as_with_others(monkeypatch):
    """One by interpolation, several by sparse matrices."""
    monkeypatch.setattr("napari_restore_rwkv.simulate.sparse_projector._LARGEST_KEPT", 32)
    angles = view_angles(40)
    sinograms = project(torch.rand(8, 48, 48), angles, PIXEL_MM)
    torch.testing.assert_close(
        osem(sinograms, angles, PIXEL_MM)[5], osem(sinograms[5], angles, PIXEL_MM), rtol=1e-3, atol=1e-4
    )


def test_slices_with_counts_and_seeds_of_their_own_are_those_of_low_count(body):
    slices, counts, seeds = [body, body[::-1].copy(), body.T.copy()], [1e5, 3e5, 2e6], [5, 6, 7]
    together = only_low_counts(slices, PIXEL_MM, Acquisition(), counts=counts, seeds=seeds)
    for image, activity, expected, seed in zip(together, slices, counts, seeds, strict=True):
        alone, _ = low_count(activity, PIXEL_MM, Acquisition(counts=expected), seed=seed)
        np.testing.assert_allclose(image, alone, rtol=1e-4, atol=1e-4)


def test_a_dose_reduction_of_one_changes_nothing(body):
    low, full = low_count(body, PIXEL_MM, Acquisition(dose_reduction=1), seed=3)
    np.testing.assert_allclose(low, full, rtol=1e-4, atol=1e-5)


def test_a_seed_gives_the_same_scan_and_another_seed_another(body):
    first, again, other = (low_count(body, PIXEL_MM, seed=seed)[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_filter_keeps_sum_and_has_the_width_that_it_says():
    point = torch.zeros(41, 41)
    point[20, 20] = 1
    blurred = gaussian(point, 6.0)
    assert float(blurred.sum()) == pytest.approx(1, rel=1e-3)
    assert float(blurred[20, 23] / blurred[20, 20]) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("activity", "words"),
    [
        (np.ones((4, 6)), r"square slices, .* got shape \(4, 6\)"),
        (-np.ones((8, 8)), r"must be 0 or more"),
        (np.zeros((8, 8)), r"above 0 somewhere"),
    ],
)
def test_impossible_activity_is_refused_with_a_message(activity, words):
    with pytest.raises(ValueError, match=words):
        low_count(activity, PIXEL_MM, seed=0)


def test_an_impossible_acquisition_is_refused_with_a_message():
    with pytest.raises(ValueError, match=r"dose reduction of 1 or more; got 100.0 and 0.5"):
        Acquisition(counts=100.0, dose_reduction=0.5)
