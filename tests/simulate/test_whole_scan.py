import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.whole_scan import STRENGTHS, simulate


@pytest.fixture
def mr_scan(rng):
    y, x = np.mgrid[:40, :32]
    head = 500 * ((y - 20) ** 2 / 15**2 + (x - 16) ** 2 / 11**2 < 1)
    return Scan(np.stack([head, 0.5 * head]).astype(np.int16), (5.0, 1.0, 1.2), modality="MR")


@pytest.fixture
def pet_scan():
    y, x = np.mgrid[:40, :32]
    body = (2.0 * ((y - 20) ** 2 / 15**2 + (x - 16) ** 2 / 11**2 < 1)).astype(np.float32)
    return Scan(np.stack([body, 0 * body, 0.25 * body]), (5.0, 4.0, 4.0), modality="PET", unit="SUV")


def made_worse(scan, task, seed=1, strength=None):
    return finish(simulate(scan, task, seed=seed, strength=strength))


def test_ct_gets_noise_of_the_requested_strength_in_its_type_and_place(small_scan):
    # The middle of the square that the slices of 21 x 26 are fitted into.
    middle = np.s_[0, 7:15, 9:17]
    for strength in (1, 2):
        noise = made_worse(small_scan, "ct-denoise", strength=strength).voxels - small_scan.voxels
        assert noise[middle].std() == pytest.approx(35 * strength, rel=0.02)
    worse = made_worse(small_scan, "ct-denoise")
    assert worse.voxels.dtype == np.int16
    assert (worse.spacing_mm, worse.origin_mm) == (small_scan.spacing_mm, small_scan.origin_mm)


def test_mr_loses_resolution_and_keeps_the_mean(mr_scan):
    worse = made_worse(mr_scan, "mri-sr", strength=4)
    edges = [np.abs(np.diff(scan.voxels[0].astype(float), axis=0)).max() for scan in (mr_scan, worse)]
    assert edges[1] < 0.5 * edges[0]
    assert worse.voxels.mean() == pytest.approx(mr_scan.voxels.mean(), rel=0.1)


def test_mr_at_strength_one_is_the_scan_itself(mr_scan):
    np.testing.assert_array_equal(made_worse(mr_scan, "mri-sr", strength=1).voxels, mr_scan.voxels)


def test_pet_keeps_its_uptake_and_gets_noisier_with_fewer_counts(pet_scan):
    few, many = (made_worse(pet_scan, "pet-low-count", strength=s).voxels[0] for s in (200, 2))
    inside = pet_scan.voxels[0] > 0
    assert few[inside].mean() == pytest.approx(2, rel=0.1)
    assert few[inside].std() > 2 * many[inside].std()


def test_pet_slices_that_are_simulated_together_keep_their_places(pet_scan):
    """More than one batch, in which every fourth slice is empty."""
    uptake = np.array([0.0, 1.0, 2.0, 3.0] * 5, np.float32)
    slices = uptake[:, None, None] * pet_scan.voxels[0]
    worse = made_worse(pet_scan.with_voxels(slices), "pet-low-count", strength=2)
    np.testing.assert_allclose(worse.voxels.mean(axis=(1, 2)), slices.mean(axis=(1, 2)), rtol=0.02)


def test_a_slice_of_pet_without_uptake_stays_empty(pet_scan):
    assert not made_worse(pet_scan, "pet-low-count").voxels[1].any()


@pytest.mark.parametrize("task", STRENGTHS)
def test_the_seed_decides_and_is_written_down(task, small_scan, mr_scan, pet_scan):
    scan = {"ct-denoise": small_scan, "mri-sr": mr_scan, "pet-low-count": pet_scan}[task]
    first, again = (made_worse(scan, task, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.voxels, again.voxels)
    assert first.metadata["simulation"]["seed"] == 4
    assert first.metadata["simulation"]["strength"] == STRENGTHS[task].usual


def test_every_slice_has_independent_noise(small_scan):
    same = small_scan.with_voxels(np.repeat(small_scan.voxels[:1], 2, axis=0))
    first, second = made_worse(same, "ct-denoise").voxels
    assert (first != second).any()


def test_each_slice_is_announced_when_it_is_done(mr_scan):
    assert [step.done for step in simulate(mr_scan, "mri-sr", seed=0)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("task", "changes", "strength", "words"),
    [
        ("all-in-one", {}, None, 'The task "all-in-one" cannot be simulated; choose one of ct-denoise, mri-sr'),
        ("ct-denoise", {}, None, "ct-denoise is for CT, but this scan is MR"),
        ("mri-sr", {}, 9, r"must be from 1 to 8; got 9"),
        ("mri-sr", {}, float("nan"), r"must be from 1 to 8; got nan"),
        ("mri-sr", {"voxels": np.full((1, 9, 9), -3.0)}, None, "values of MR must be 0 or more"),
        ("mri-sr", {"voxels": np.ones((1, 9, 7))}, None, "slice of 9 x 7 pixels is too small"),
        ("mri-sr", {"voxels": np.full((1, 9, 9), np.nan)}, None, "Slice 0 contains NaN or infinite values"),
        ("pet-low-count", {"modality": "PET"}, None, r"pixels must be square for projection; they are 1 x 1.2 mm"),
    ],
)
def test_unsuitable_requests_are_refused_with_a_message(mr_scan, task, changes, strength, words):
    scan = mr_scan.with_voxels(changes.pop("voxels", mr_scan.voxels), **changes)
    with pytest.raises(ScanError, match=words):
        made_worse(scan, task, strength=strength)
