"""Was it only noise? Calibrated on noise of random kernels in real anatomy, and on structures erased with it."""

import warnings

import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.image_quality.contrast import disc
from napari_restore_rwkv.reliability.removed import Verdict, judge_removed
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.noise.smoothing import box_mean
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.simulate.ct_kernels import random_kernel
from napari_restore_rwkv.simulate.ct_noise import noise_realisation, noise_shape

pytestmark = pytest.mark.slow

TRIALS = 60


@pytest.fixture(scope="module")
def trials():
    """Clean pieces of a slice with noise as strong and as coarse as it comes."""
    rng = np.random.default_rng(2)
    scan = read_scan(sample_path("ct_abdomen_dicom"))
    pieces = []
    for index in (3, 9, 16):
        clean = np.asarray(scan.voxels[index], np.float32)
        shape = noise_shape(clean, scan.spacing_mm[1]).crop(0.25, 0.25, 0.5, 0.5)
        for _ in range(TRIALS // 3):
            strength = rng.uniform(8, 80)
            noise = noise_realisation(shape, (256, 256), scan.spacing_mm[1], random_kernel(rng), strength, rng)
            pieces.append((clean[128:384, 128:384], noise))
    return pieces


def test_pure_noise_is_called_noise(trials):
    verdicts = [judge_removed(clean + noise, clean).verdict for clean, noise in trials]
    assert verdicts.count(Verdict.NOISE) >= 0.95 * TRIALS
    assert Verdict.STRUCTURE not in verdicts


def test_noise_that_was_removed_in_part_is_called_noise(trials):
    verdicts = [judge_removed(clean + noise, clean + 0.3 * noise).verdict for clean, noise in trials[::3]]
    assert verdicts.count(Verdict.NOISE) >= 0.95 * len(verdicts)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_erased_structure_of_three_pixels_and_twice_the_noise_is_found(trials, sign):
    rng, found = np.random.default_rng(3), 0
    for clean, noise in trials:
        inner = np.argwhere(box_mean(clean)[40:-40, 40:-40] > -200) + 40
        row, column = (int(value) for value in inner[rng.integers(len(inner))])
        local = noise[row - 12 : row + 13, column - 12 : column + 13].std()
        structure = sign * 2 * local * disc(clean.shape, (row, column), 3.0)
        judged = judge_removed(clean + structure + noise, clean)
        near = any(abs(y - row) < 4 and abs(x - column) < 4 and z * sign > 0 for y, x, z in judged.places)
        found += near and judged.verdict is not Verdict.NOISE
    assert found >= 0.9 * TRIALS


def test_a_mean_that_was_removed_is_not_called_noise(trials):
    clean, noise = trials[0]
    judged = judge_removed(clean + noise, clean - 0.3 * noise.std())
    assert judged.verdict is Verdict.DOUBTFUL
    assert "not zero on average" in judged.reason
    assert judged.bias == pytest.approx(0.3 * noise.std(), rel=0.2)


def test_smoothed_anatomy_is_called_structure(trials):
    clean, _ = trials[0]
    smoothed = (clean + np.roll(clean, 1, 0) + np.roll(clean, 1, 1) + np.roll(clean, (1, 1), (0, 1))) / 4
    judged = judge_removed(clean, smoothed)
    assert judged.verdict is Verdict.STRUCTURE
    assert judged.reason.startswith("Structure was removed in")
    assert judged.edge_correlation > 0.5


def test_an_unchanged_slice_is_reported_as_unchanged(trials):
    clean, _ = trials[0]
    judged = judge_removed(clean, clean)
    assert (judged.verdict, judged.reason, judged.places) == (Verdict.NOISE, "Nothing was removed.", ())


def test_correlated_noise_has_correlated_neighbours(trials):
    clean, noise = trials[0]
    white = np.random.default_rng(0).normal(0, 20, clean.shape)
    smooth = judge_removed(clean + noise, clean).neighbour_correlation
    down, right = (np.corrcoef(noise[:-1, :-1].ravel(), one.ravel())[0, 1] for one in (noise[1:, :-1], noise[:-1, 1:]))
    assert smooth == pytest.approx((down + right) / 2, abs=0.1)
    assert abs(judge_removed(clean + white, clean).neighbour_correlation) < 0.02


@pytest.mark.parametrize("shapes", [((63, 200), (63, 200)), ((128, 128), (128, 127))])
def test_slices_that_are_too_small_or_do_not_fit_are_refused(shapes):
    with pytest.raises(ScanError, match="64 pixels or more along each side"):
        judge_removed(*(np.zeros(shape) for shape in shapes))


def test_concurrent_judging_keeps_the_filters_of_warnings(monkeypatch, rng):
    """The filters of warnings are shared by all threads: one that reset them made warnings of another into errors."""
    body = np.full((160, 160), -1000.0, np.float32)
    body[:, 64:] = rng.normal(40, 20, (160, 96))
    warnings.simplefilter("error")
    monkeypatch.setattr(warnings, "simplefilter", lambda *words: None)
    assert judge_removed(body, np.where(body > -500, 40, body)).verdict is Verdict.NOISE
