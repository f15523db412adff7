import numpy as np
import pytest
from phantom import clean_scan, noisy_scan, scan_of

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.training.registration import Shift, check_pair, check_shift, estimated_shift, mismatched
from napari_restore_rwkv.training.slices import Slices


def shift_of(degraded, target):
    return estimated_shift(Slices(degraded, 0), Slices(target, 0))


@pytest.mark.parametrize(("y", "x"), [(0, 0), (3, -2), (-1, 0)])
def test_a_shift_is_found_in_spite_of_noise(y, x):
    clean = clean_scan(side=64)
    found = shift_of(noisy_scan(scan_of(np.roll(clean.voxels, (y, x), axis=(1, 2)))), clean)
    assert (found.y, found.x) == pytest.approx((y, x), abs=0.25)


def test_half_a_pixel_is_found():
    clean = clean_scan(side=64)
    moved = (clean.voxels + np.roll(clean.voxels, 1, axis=2)) / 2
    assert shift_of(scan_of(moved), clean).x == pytest.approx(0.5, abs=0.2)


def test_flat_scans_have_no_shift():
    flat = scan_of(np.full((4, 16, 16), 7))
    assert shift_of(flat, flat) == Shift(0.0, 0.0)


def test_more_than_a_pixel_is_refused_unless_forced():
    with pytest.raises(ScanError, match=r"shifted relative to its reference by 2.0 rows and -1.0 columns.*or force it"):
        check_shift(Shift(2, -1), force=False)
    assert check_shift(Shift(2, -1), force=True).endswith("forced.")
    assert check_shift(Shift(0.5, 0.5), force=False) == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"voxels": np.zeros((3, 32, 32))}, "has 3 x 32 x 32 voxels and its reference 16 x 32 x 32; resample"),
        ({"spacing_mm": (3.0, 1.0, 1.1)}, "are 3 x 1 x 1.1 mm and those of its reference 3 x 1 x 1 mm; resample"),
        ({"modality": "MR"}, "is MR and its reference CT; give two scans of the same modality"),
    ],
)
def test_scans_that_do_not_fit_are_refused(changes, words):
    clean = clean_scan()
    voxels = changes.pop("voxels", clean.voxels)
    with pytest.raises(ScanError, match=words):
        check_pair(scan_of(voxels, **changes), clean)


def test_shuffled_slices_are_noticed_and_true_pairs_are_not():
    clean = clean_scan(slices=20)
    pair = (noisy_scan(clean), clean)
    shuffled = scan_of(pair[0].voxels[np.random.default_rng(0).permutation(20)])
    assert mismatched([(Slices(pair[0], 0), Slices(clean, 0))]) == ""
    assert "do not belong together" in mismatched([(Slices(shuffled, 0), Slices(clean, 0))])
