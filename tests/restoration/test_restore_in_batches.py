"""A scan on a device that processes several slices at a time: the same results, the same guarantees."""

import json

import numpy as np
import pytest
import torch
from fake_machine import FakeMachine

from napari_restore_rwkv.errors import CheckpointError, DeviceError
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration import slices as slices_module
from napari_restore_rwkv.restoration.provenance import InputDigest
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.scans.scan import Scan


class Network(RestoreRWKV):
    """Runs out of memory on request."""

    most = 1000

    def stages(self, image, *, in_strips=False):
        yield from super().stages(image, in_strips=in_strips)
        if len(image) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def network():
    network = Network(channels=4, blocks=(1, 1, 1, 1), refinement=1).eval()
    with torch.no_grad():
        network.output.weight.normal_(0, 0.01)
    return network


@pytest.fixture
def scan(rng):
    return Scan(rng.integers(-1000, 1000, (11, 9, 10)).astype(np.float32), modality="CT")


@pytest.fixture
def machines(monkeypatch):
    """All devices that jobs have run on, each with room for three slices."""
    machines = []

    def machine_for(device):
        machines.append(FakeMachine(free=1 << 40, per_slice=1 << 38))
        return machines[-1]

    monkeypatch.setattr(slices_module, "machine_for", machine_for)
    return machines


def finished(steps):
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


def order_of(seen):
    return [progress.region[0].start for progress in seen if progress.region]


def test_batches_restore_what_single_slices_restore(scan, network, request):
    expected, _ = finished(iter_restore(scan, network))
    machines = request.getfixturevalue("machines")
    restored, seen = finished(iter_restore(scan, network))
    np.testing.assert_allclose(restored.voxels, expected.voxels, atol=1e-2)
    assert order_of(seen) == list(range(11))
    assert machines[-1].log.count("upload 3") == 3
    own, other = restored.metadata["restoration"], expected.metadata["restoration"]
    digest = InputDigest()
    for index, image in enumerate(scan.voxels):
        digest.add(index, image)
    assert own["input_sha256"] == other["input_sha256"] == digest.hexdigest()
    assert own["execution"]["slices_at_once"] == 3
    assert own["execution"]["cuda_graph"]["replays"] == 2
    assert other["execution"] == {"slices_at_once": 1, "in_strips": False}


def test_the_first_slice_is_shown_before_the_next_are_even_read(scan, network, machines):
    steps = iter_restore(scan, network, first=5)
    progress = next(steps)
    while progress.region is None:
        progress = next(steps)
    assert progress.region[0] == slice(5, 6)
    assert machines[-1].brief() == ["upload 1", "download 1", "arrived"]


def test_scrolling_changes_which_batch_comes_next_but_not_those_under_way(rng, network, machines):
    scan = Scan(rng.random((20, 8, 8), np.float32))
    steps = iter_restore(scan, network, first=0, batch=3)
    order, sent = [], None
    while len(order) < 20:
        progress = steps.send(sent)
        sent = None
        if progress.region:
            order.append(progress.region[0].start)
            # Two batches are under way: the third is chosen after this.
            sent = 15 if len(order) == 2 else None
    assert order[:7] == [0, *[1, 2, 3], *[4, 5, 6]]
    assert order[7:10] == [15, 14, 16]
    assert sorted(order) == list(range(20))


def test_closing_keeps_finished_slices_and_frees_memory(scan, network, machines):
    output = np.full(scan.shape, np.nan, np.float32)
    steps = iter_restore(scan, network, output=output)
    while next(steps).done < 3:
        pass
    steps.close()
    assert np.isfinite(output[:3]).all()
    assert np.isnan(output[3:]).all()
    assert machines[-1].log[-2:] == ["settled", "given back"]


def test_a_lack_of_memory_is_reported_once_and_no_slice_is_lost(scan, network, machines):
    network.most = 1
    expected, _ = finished(iter_restore(scan, network, batch=1))
    restored, seen = finished(iter_restore(scan, network))
    note = "memory is short: 1 slice at a time"
    assert [progress.detail for progress in seen].count(note) == 1
    assert restored.metadata["restoration"]["execution"]["notes"] == [note]
    assert sorted(order_of(seen)) == list(range(11))
    np.testing.assert_array_equal(restored.voxels, expected.voxels)


def test_running_out_of_memory_for_good_keeps_finished_slices(scan, network, machines):
    output = np.full(scan.shape, np.nan, np.float32)
    steps = iter_restore(scan, network, output=output)
    while next(steps).region is None:
        pass
    network.most = 0
    with pytest.raises(DeviceError, match="even in strips of rows"):
        finished(steps)
    assert np.isfinite(output[0]).all()
    assert np.isnan(output[1:]).all()
    assert machines[-1].log[-2:] == ["settled", "given back"]


def test_nan_in_one_slice_of_a_batch_is_not_written(scan, network, machines):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return torch.where(x.mean(dim=(1, 2, 3), keepdim=True) > 0.9, torch.nan, x)

    scan.voxels[2] = 3000
    output = np.full(scan.shape, np.nan, np.float32)
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        finished(iter_restore(scan, Broken(), output=output, intensity=None))
    assert np.isfinite(output[:2]).all()
    assert np.isnan(output[2:]).all()


def test_a_batch_without_slices_is_refused(scan, network):
    with pytest.raises(DeviceError, match="A batch must hold at least one slice; got 0"):
        next(iter_restore(scan, network, batch=0))


def test_a_cpu_takes_one_slice_at_a_time_whatever_the_batch(scan, network):
    restored, _ = finished(iter_restore(scan, network, batch=5))
    expected, _ = finished(iter_restore(scan, network))
    np.testing.assert_array_equal(restored.voxels, expected.voxels)
    assert restored.metadata["restoration"]["execution"]["slices_at_once"] == 1
    json.dumps(restored.metadata["restoration"], allow_nan=False)
