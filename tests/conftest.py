"""Shared by the tests: seeded randomness, a small scan, a small network and its weights file."""

import os
import sys

import numpy as np
import pytest
from memory_watch import MemoryWatch
from tiny import SEED, new_network, write_weights

from napari_restore_rwkv.scans.scan import Scan


def pytest_configure(config):
    """Watch the memory from here on, while standard error is still the terminal's."""
    watch = MemoryWatch(os.dup(sys.__stderr__.fileno()))
    watch.start()
    config.add_cleanup(watch.stop)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Compute with one thread: the problems of the tests are too small to share out, threads would only wait."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_seeds():
    """Every test starts from the same random state, in whatever order they run."""
    import torch

    np.random.seed(SEED)  # noqa: NPY002 - guards against code of others that draws from the global generator
    torch.manual_seed(SEED)
    # The problems of the tests are too small to share out; threads would only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture
def rng():
    """A seeded generator for each test."""
    return np.random.default_rng(SEED)


@pytest.fixture
def small_scan(rng):
    """A noisy CT cylinder of 3 slices of 21 x 26 voxels, int16 HU, thick slices, turned about the z axis."""
    y, x = np.mgrid[:21, :26]
    body = np.where((y - 10) ** 2 + (x - 13) ** 2 < 80, 40, -1000)
    voxels = (body + rng.normal(0, 25, (3, 21, 26))).round().astype(np.int16)
    cosine, sine = np.cos(0.2), np.sin(0.2)
    return Scan(
        voxels,
        spacing_mm=(5.0, 0.8, 0.8),
        origin_mm=(-120.5, -80.25, 33.0),
        direction=np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]),
        modality="CT",
        unit="HU",
    )


@pytest.fixture
def tiny_network():
    """The smallest CT network that changes its input, not fused."""
    return new_network()


@pytest.fixture
def weights_file(tiny_network, tmp_path_factory):
    """The weights of the tiny network with their card, in a folder of their own."""
    return write_weights(tiny_network, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def scan_file(small_scan, tmp_path):
    """A small CT scan on disk."""
    from napari_restore_rwkv.scans.files import write_scan

    path = tmp_path / "abdomen.nii.gz"
    write_scan(small_scan, path)
    return path


@pytest.fixture
def run(capfd):
    """Run restore-rwkv in this process; return exit code, stdout and stderr."""
    from napari_restore_rwkv.commands import cli

    def run_command(*words):
        code = cli.main([str(word) for word in words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run_command
