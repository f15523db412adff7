"""Work that reports no steps ends between two of the slices that it reads, once it is cancelled."""

import numpy as np
import pytest

from napari_restore_rwkv.cancellation import Cancelled, cancellable, end_if_cancelled
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.noise import measured_noise
from napari_restore_rwkv.scans.scan import Scan


class SlicesOnDemand:
    """Voxels that count the slices that were read."""

    shape, dtype, ndim = (40, 32, 32), np.dtype(np.float32), 3

    def __init__(self):
        self.read = 0
        self._voxels = np.random.default_rng(0).normal(100, 5, self.shape).astype(np.float32)

    def __getitem__(self, index):
        self.read += 1
        return self._voxels[index]


@pytest.mark.parametrize("work", [choose_intensity, lambda scan: measured_noise(scan, 0)], ids=["window", "noise"])
@pytest.mark.parametrize("enough", [0, 1, 7])
def test_no_further_slice_is_read_once_the_work_is_cancelled(work, enough):
    voxels = SlicesOnDemand()
    with cancellable(lambda: voxels.read >= enough), pytest.raises(Cancelled):
        work(Scan(voxels, modality="MR"))
    assert voxels.read == enough
    work(Scan(voxels, modality="MR"))
    assert voxels.read > enough, "outside, the same work runs to its end"


def test_a_handler_of_exceptions_does_not_take_a_cancellation():
    def stubborn():
        try:
            end_if_cancelled()
        except Exception:
            return "went on"

    with cancellable(lambda: True), pytest.raises(Cancelled):
        stubborn()
