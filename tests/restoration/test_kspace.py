import numpy as np
import pytest

from napari_restore_rwkv.restoration.kspace import measured_extent, with_measured
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.simulate.mri import kept_block, low_resolution


@pytest.fixture(scope="module")
def slices():
    """CT slices stand in for MR: edges, texture, and a field of view that is not filled; 256 x 256 pixels."""
    voxels = np.stack([read_scan(path).voxels[0] for path in sorted(sample_path("ct_abdomen_dicom").iterdir())[::7]])
    return (voxels.clip(-1000, 400) + 1000.0).reshape(-1, 256, 2, 256, 2).mean(axis=(2, 4))


@pytest.mark.parametrize("factor", [2, 2.7, 4, (2, 3)])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_the_extent_of_a_zero_filled_slice_is_never_overestimated(slices, factor, noise):
    for image in slices:
        found = measured_extent(low_resolution(image, factor, noise * image.max(), seed=1))
        paired = [(index.size - 1) // 2 for index in kept_block(image.shape, factor)]
        assert found is not None
        # The frequency at the very end is left out, where one cannot tell whether it had a partner.
        assert all(0 <= end - got <= 2 for got, end in zip(found, paired, strict=True))


def test_a_slice_that_was_measured_in_full_has_no_extent(slices, rng):
    for image in slices:
        assert measured_extent(image) is None
        assert measured_extent(image + rng.normal(0, 20, image.shape)) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (12, 12)])
def test_a_slice_of_few_pixels_has_no_extent(rng, shape):
    assert measured_extent(rng.normal(0, 1, shape)) is None


def test_a_constant_slice_has_no_extent():
    assert measured_extent(np.full((64, 64), 7.0)) is None


def test_rounding_to_whole_numbers_hides_no_extent(slices):
    low = low_resolution(slices[0], 2)
    assert measured_extent(np.rint(low).astype(np.int16)) == measured_extent(low)


def test_a_fully_measured_axis_gets_the_fraction_of_the_other(slices):
    rows, columns = measured_extent(low_resolution(slices[0], (1, 3)))
    assert rows == columns
    assert 41 <= columns <= 42


@pytest.mark.parametrize("shape", [(40, 50), (41, 51)])
def test_measured_frequencies_are_put_back_and_others_stay_restored(rng, shape):
    image, restored = rng.normal(0, 1, (2, *shape))
    result = np.fft.fft2(with_measured(restored, image, (8, 11)))
    frequency = [np.abs(np.fft.fftfreq(size) * size) for size in shape]
    inside = (frequency[0][:, None] <= 8) & (frequency[1] <= 11)
    np.testing.assert_allclose(result[inside], np.fft.fft2(image)[inside], atol=1e-3)
    np.testing.assert_allclose(result[~inside], np.fft.fft2(restored)[~inside], atol=1e-3)


def test_putting_everything_back_returns_the_image(rng):
    image, restored = rng.normal(0, 1, (2, 20, 30))
    np.testing.assert_allclose(with_measured(restored, image, (10, 15)), image, atol=1e-5)


def test_a_perfect_restoration_stays_nearly_perfect(slices):
    """Except for the effect of the magnitude, where ringing in dark regions would be negative."""
    low = low_resolution(slices[0], 2)
    again = with_measured(slices[0], low, measured_extent(low))
    assert np.sqrt(np.mean((again - slices[0]) ** 2)) < 0.35 * np.sqrt(np.mean((low - slices[0]) ** 2))
