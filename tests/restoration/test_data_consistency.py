from dataclasses import replace

import numpy as np
import pytest

from napari_restore_rwkv.network.checkpoint import for_inference
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.kspace import measured_extent
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.mri import low_resolution


@pytest.fixture
def low(rng):
    """A zero-filled slice with something at every measured frequency, 64 x 64 pixels."""
    return low_resolution(500 + 60 * rng.normal(0, 1, (64, 64)).clip(-3, 3), 2)


@pytest.fixture
def network(tiny_network):
    tiny_network.card = replace(tiny_network.card, task="mri-sr", modality="MR", details={"keeps_measured": True})
    return tiny_network


def measured_change(restored, image):
    """Largest absolute difference between the measured frequencies of a result and those of the slice."""
    extent = measured_extent(image)
    frequency = [np.abs(np.fft.fftfreq(size) * size) for size in image.shape]
    inside = (frequency[0][:, None] <= extent[0]) & (frequency[1] <= extent[1])
    return np.abs(np.fft.fft2(restored.astype(np.float64) - image))[inside].max()


def restored_by(network, image, modality="MR"):
    return restore_slice(image, network, choose_intensity(Scan(image[None], modality=modality)))


def test_measured_frequencies_are_kept_and_others_are_added(network, low):
    restored = restored_by(network, low)
    assert measured_change(restored, low) < 0.1
    assert np.abs(restored - low).max() > 1


def test_weights_without_data_consistency_may_change_all_frequencies(network, low):
    network.card = replace(network.card, details={})
    assert measured_change(restored_by(network, low), low) > 10


def test_a_scan_of_another_modality_is_left_to_the_network(network, low):
    assert measured_change(restored_by(network, low, "CT"), low) > 10


def test_a_slice_that_was_measured_in_full_is_left_to_the_network(network, rng):
    image = 500 + 60 * rng.normal(0, 1, (64, 64))
    assert measured_extent(image) is None
    assert np.abs(restored_by(network, image) - image).max() > 1


def test_values_outside_the_window_stay_as_they_are(network, low):
    low[5, 5] = 9000
    rule = choose_intensity(Scan(np.minimum(low, 4000)[None], modality="MR"))
    assert restore_slice(low, network, rule)[5, 5] == 9000


def test_a_slice_with_nan_values_is_restored(network, low):
    low[3, 4] = np.nan
    restored = restored_by(network, low)
    assert np.isnan(restored[3, 4])
    assert np.isfinite(restored).sum() == low.size - 1


def test_data_consistency_is_applied_to_every_slice_of_a_scan(network, low):
    scan = Scan(np.stack([low, low[::-1]]).astype(np.float32), modality="MR")
    restored = finish(iter_restore(scan, network))
    assert restored.metadata["restoration"]["keeps_measured"] is True
    assert "wrapped_border" not in restored.metadata["restoration"]
    for before, after in zip(scan.voxels, restored.voxels, strict=True):
        assert measured_change(after, before) < 0.1


def test_a_result_records_how_many_turns_and_which_border_it_was_made_with(network, low):
    details = {"keeps_measured": True, "turns": 2, "wrapped_border": 3}
    asked = for_inference(network, replace(network.card, details=details))
    record = finish(iter_restore(Scan(low[None], modality="MR"), asked)).metadata["restoration"]
    assert {name: record[name] for name in details} == details
