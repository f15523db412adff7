"""The classical filter: non-local means by its definition, with a strength that follows from the noise."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_restore_rwkv.network.classical import CLASSICAL, load_restorer
from napari_restore_rwkv.network.non_local_means import NonLocalMeans, fine_noise
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.scans.scan import Scan


@pytest.fixture
def noisy(rng):
    steps = np.kron(rng.uniform(0.3, 0.8, (5, 6)), np.ones((10, 9)))
    return torch.from_numpy(steps + rng.normal(0, 0.03, steps.shape)).float()[None, None]


def by_definition(image, row, column, filter_parameter, noise):
    """The weighted mean around one pixel, written out."""
    total = weights = 0.0
    patch = image[row - 2 : row + 3, column - 2 : column + 3]
    for y in range(row - 6, row + 7):
        for x in range(column - 6, column + 7):
            squares = (image[y - 2 : y + 3, x - 2 : x + 3] - patch) ** 2
            weight = np.exp(-max(squares.mean() - 2 * noise**2, 0) / filter_parameter**2)
            total += weight * image[y, x]
            weights += weight
    return total / weights


@pytest.mark.parametrize("strength", [0.4, 1.0, 3.0])
def test_every_pixel_is_the_mean_that_the_definition_says(noisy, strength):
    filtered = NonLocalMeans(strength)(noisy)[0, 0].numpy()
    image, noise = noisy[0, 0].double().numpy(), float(fine_noise(noisy))
    for row, column in ((8, 8), (20, 30), (25, 27), (41, 45)):
        expected = by_definition(image, row, column, strength * noise, noise)
        assert filtered[row, column] == pytest.approx(expected, abs=1e-5)
    assert np.abs(filtered - image).max() > 0.02


def test_white_noise_is_measured_and_empty_background_is_ignored(rng):
    image = torch.full((1, 1, 120, 120), 0.5) + 0.02 * torch.from_numpy(rng.normal(size=(1, 1, 120, 120))).float()
    assert float(fine_noise(image)) == pytest.approx(0.02, rel=0.05)
    image[..., 40:] = 0
    assert float(fine_noise(image)) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_slices_without_noise_or_content_are_unchanged(dtype):
    for image in (torch.zeros(2, 1, 20, 30), torch.full((1, 1, 9, 7), 0.25)):
        filtered = NonLocalMeans(3.0).to(dtype)(image.to(dtype))
        torch.testing.assert_close(filtered, image)


def test_slices_of_a_batch_do_not_affect_each_other(noisy):
    other = noisy.flip(2) * 0.5 + 0.1
    both = NonLocalMeans(1.0)(torch.cat((noisy, other)))
    torch.testing.assert_close(both, torch.cat([NonLocalMeans(1.0)(one) for one in (noisy, other)]))


def test_every_task_of_one_modality_has_a_filter_that_lessens_its_noise(rng):
    clean = np.kron(rng.uniform(0.2, 0.6, (6, 6)), np.ones((10, 10)))
    for task, modality, unit, scale, smooth in (
        ("ct-denoise", "CT", "HU", 1000.0, 0.7),
        ("mri-sr", "MR", "", 1000.0, 0.3),
        ("pet-low-count", "PET", "SUV", 10.0, 1.2),
    ):
        network = load_restorer(CLASSICAL[task])
        assert (network.card.task, network.card.modality) == (task, modality)
        slice_ = scale * (clean + gaussian_filter(rng.normal(0, 0.04, clean.shape), smooth))
        restored = restore_slice(slice_, network, choose_intensity(Scan(slice_[None], modality=modality, unit=unit)))
        assert np.std(restored - scale * clean) < 0.8 * np.std(slice_ - scale * clean)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_large_slice_can_be_stopped_and_keeps_its_digits_in_any_precision(rng, precision):
    scan = Scan(rng.uniform(-100, 200, (1, 30, 40)).astype(np.float32), modality="CT", unit="HU")
    network = load_restorer(CLASSICAL["ct-denoise"])
    exact = restore_slice(scan.voxels[0], network, choose_intensity(scan))
    steps = iter_restore(scan, network, precision=precision)
    # Thirteen rows of the search window come before the slice.
    assert [next(steps).done for _ in range(13)] == [0] * 13
    np.testing.assert_array_equal(finish(steps).voxels[0], exact)


def test_any_other_name_loads_weights():
    assert load_restorer("ct-denoise").card.details["measured"]
