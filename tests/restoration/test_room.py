"""Memory for a slice is checked before it is started, on systems that would otherwise kill the process."""

import numpy as np
import pytest
import torch
from hungry_networks import hungry_network, images, run_all

from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.restoration import machine as machine_module
from napari_restore_rwkv.restoration.executor import Executor
from napari_restore_rwkv.restoration.machine import Machine
from napari_restore_rwkv.restoration.memory_estimate import bytes_per_slice
from napari_restore_rwkv.restoration.tiles import Tile


@pytest.mark.parametrize(("free", "in_strips"), [(1 << 40, False), (1.6, False), (1.4, True), (0.9, True)])
def test_a_cpu_switches_to_strips_before_a_slice_that_would_not_fit(monkeypatch, free, in_strips):
    network, given = hungry_network(), images(3, (60, 80))
    with Executor(network, Machine(torch.device("cpu"))) as executor:
        expected, _ = run_all(executor, given)
    monkeypatch.setattr(machine_module, "free_memory", lambda _: free * bytes_per_slice(network, 60, 80))
    with Executor(network, Machine(torch.device("cpu"))) as executor:
        results, notes = run_all(executor, given)
        report = executor.report()
    np.testing.assert_array_equal(results, expected)
    assert report["in_strips"] == in_strips
    assert notes == ["memory is short: one slice at a time, in strips of rows"] * in_strips


def test_memory_held_since_the_first_slice_counts_as_free_for_the_next(monkeypatch):
    network = hungry_network()
    free = [1 << 40, 0, 0]
    monkeypatch.setattr(machine_module, "free_memory", lambda _: free.pop(0))
    with Executor(network, Machine(torch.device("cpu"))) as executor:
        run_all(executor, images(3, (60, 80)))
        assert not executor.report()["in_strips"]


def test_a_slice_without_memory_is_refused_before_the_process_is_killed(monkeypatch):
    monkeypatch.setattr(machine_module, "free_memory", lambda _: 1000)
    words = r"not enough memory on cpu for a slice of 60 x 80, .*."
    with Executor(hungry_network(), Machine(torch.device("cpu"))) as executor, pytest.raises(DeviceError, match=words):
        run_all(executor, images(1, (60, 80)))


@pytest.mark.slow
def test_tiles_take_the_memory_of_one_tile(monkeypatch):
    network = hungry_network()
    enough = 1.6 * bytes_per_slice(network, 64, 64)
    monkeypatch.setattr(machine_module, "free_memory", lambda _: enough)
    with Executor(network, Machine(torch.device("cpu")), tile=Tile(64)) as executor:
        run_all(executor, images(1, (200, 300)))
        assert not executor.report()["in_strips"]
    with Executor(network, Machine(torch.device("cpu"))) as executor, pytest.raises(DeviceError):
        run_all(executor, images(1, (200, 300)))
