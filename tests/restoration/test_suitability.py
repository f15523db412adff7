"""The strength proposed for a scan with noise that the weights were, or were not, trained on."""

import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.network.checkpoint import NOISE_KEPT, OWN_ERROR, Card
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, RestoreRWKV
from napari_restore_rwkv.network.restorer import Restorer
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.noise import known_noise, limited_removal, share_to_remove
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.restoration.suitability import TRAINED_FOR, suitability
from napari_restore_rwkv.scans.noise.estimate import Noise
from napari_restore_rwkv.scans.scan import Scan

CARD = Card("t", details={TRAINED_FOR: {"noise": [6, 130], "mean_frequency": [0.08, 0.42]}})


class Smoothing(Restorer):
    """Removes most of the content of a slice."""

    def forward(self, x):
        return 0.2 * x[:, :1] + 0.8 * x[:, :1].mean(dim=(2, 3), keepdim=True)


def test_noise_that_the_weights_know_is_restored_in_full():
    proposed = suitability(Noise(22.4, "HU", 0.2), CARD)
    assert (proposed.known, proposed.strength, proposed.classical) == (True, 1.0, False)
    assert proposed.reason == "The noise is 22.4 HU; these weights know 6 to 130 HU and this kernel."


@pytest.mark.parametrize(
    ("noise", "known", "strength", "classical", "words"),
    [
        (Noise(3.0, "HU", 0.2), True, 1.0, False, "there is little to remove"),
        (Noise(190.0, "HU", 0.2), False, 0.6, True, "the classical filter is proposed"),
        (Noise(30.0, "HU", 0.45), False, 0.6, False, "The noise is finer than any"),
        (Noise(30.0, "HU", 0.03), False, 0.6, False, "The noise is coarser than any"),
    ],
)
def test_unfamiliar_noise_is_reported_with_a_proposal(noise, known, strength, classical, words):
    proposed = suitability(noise, CARD)
    assert (proposed.known, proposed.strength, proposed.classical) == (known, strength, classical)
    assert words in proposed.reason


def test_weights_that_do_not_say_what_they_were_made_for_propose_nothing():
    assert suitability(Noise(500.0, "HU"), Card("t")).reason == ""
    assert suitability(Noise(500.0, "HU"), None).strength == 1


def test_no_more_is_removed_than_the_noise_accounts_for(rng):
    anatomy = np.kron(rng.normal(0, 80, (8, 8)), np.ones((16, 16))).astype(np.float32)
    noisy = anatomy + rng.normal(0, 10, anatomy.shape).astype(np.float32)
    restored = noisy - 0.8 * (noisy - noisy.mean())
    limited = limited_removal(noisy, restored, 10.0, "CT")
    removed = np.sqrt(np.mean((limited - noisy) ** 2))
    assert removed < 20 < np.sqrt(np.mean((restored - noisy) ** 2))
    # In the same direction, only less far.
    assert np.corrcoef((limited - noisy).ravel(), (restored - noisy).ravel())[0, 1] > 0.999


def test_what_the_noise_accounts_for_is_removed_in_full(rng):
    image = rng.normal(50, 20, (64, 64)).astype(np.float32)
    restored = np.full_like(image, 50)
    assert limited_removal(image, restored, 20.0, "CT") is restored
    # Far above the noise of the scan, and yet that of this slice, as at the shoulders.
    assert limited_removal(image, restored, 8.0, "CT") is restored


def test_values_that_passed_through_stay_what_they_were(rng):
    image = rng.normal(0, 100, (32, 32)).astype(np.float32)
    image[0, 0] = np.nan
    limited = limited_removal(image, np.where(np.isnan(image), image, 0), 1.0, "CT")
    assert np.isnan(limited[0, 0])
    assert np.isfinite(limited[1:]).all()


@pytest.mark.parametrize("noise", [-1.0, np.nan, np.inf])
def test_an_impossible_noise_is_refused(noise, tiny_network):
    with pytest.raises(ScanError, match="a standard deviation of 0 or more"):
        known_noise(Scan(np.zeros((1, 8, 8))), tiny_network, 0, noise)


@pytest.mark.parametrize("strength", [-0.1, 1.1, np.nan])
def test_an_impossible_strength_is_refused(strength):
    with pytest.raises(ScanError, match="strength of a restoration must be 0 to 1"):
        finish(iter_restore(Scan(np.zeros((1, 8, 8)), modality="CT"), Smoothing(), strength=strength))


def test_the_strength_is_the_part_of_the_change_that_is_made(rng):
    scan = Scan(rng.integers(-500, 500, (2, 16, 16)).astype(np.float32), modality="CT")
    whole = finish(iter_restore(scan, Smoothing())).voxels
    part = finish(iter_restore(scan, Smoothing(), strength=0.25))
    np.testing.assert_allclose(part.voxels, scan.voxels + 0.25 * (whole - scan.voxels), atol=1e-3)
    assert part.metadata["restoration"]["strength"] == 0.25


def test_noise_is_measured_only_for_networks_that_ask_for_it(rng, tiny_network):
    scan = Scan(rng.normal(40, 25, (3, 96, 96)).astype(np.float32), modality="CT", unit="HU")
    assert known_noise(scan, tiny_network, 0, None) is None
    asking = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1, context=CONTEXT_CHANNELS)
    assert known_noise(scan, asking, 0, None) == pytest.approx(25, rel=0.15)
    assert known_noise(scan, asking, 0, 7) == 7.0
    # Too small to be measured.
    assert known_noise(Scan(scan.voxels[:, :8, :8], modality="CT"), asking, 0, None) is None


def test_the_less_noise_there_is_the_less_of_the_change_is_made(rng):
    network = Smoothing()
    scan = Scan(rng.integers(-500, 500, (1, 64, 64)).astype(np.float32), modality="CT")
    whole = finish(iter_restore(scan, network)).voxels - scan.voxels
    network.card = Card("own", details={OWN_ERROR: 5.0})
    assert [share_to_remove(network, noise) for noise in (0, 5, 500, None)] == pytest.approx([0, 0.5, 1, 1], abs=1e-3)
    network.card = Card("own", details={OWN_ERROR: 5.0, NOISE_KEPT: 0.1})
    assert [share_to_remove(network, noise) for noise in (0, 5, 500, None)] == pytest.approx(
        [0, 0.45, 0.9, 0.9], abs=1e-3
    )
    network.card = Card("own", details={OWN_ERROR: 5.0})
    rule = choose_intensity(scan)
    half = restore_slice(scan.voxels[0], network, rule, noise=5.0)
    removed = limited_removal(scan.voxels[0], scan.voxels[0] + whole[0], 5.0, None) - scan.voxels[0]
    np.testing.assert_allclose(half - scan.voxels[0], removed / 2, atol=1e-2)
