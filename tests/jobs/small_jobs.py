"""A small job, for the tests that stop it."""

import numpy as np
import torch

from napari_restore_rwkv.jobs.job import restore_to_zarr
from napari_restore_rwkv.network.checkpoint import Card
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.scans.scan import Scan

SLICES, PER_SLAB = 14, 4
SLABS = 4


def small_ct(slices=SLICES, side=16):
    rng = np.random.default_rng(11)
    voxels = rng.integers(-1000, 1500, (slices, side, side + 2), dtype=np.int16)
    return Scan(voxels, (5.0, 0.8, 0.8), (-120.5, -80.25, 33.0), modality="CT", unit="HU")


def small_network(seed=5):
    torch.manual_seed(seed)
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1).eval()
    with torch.no_grad():
        # A new network is the identity.
        network.output.weight.normal_(0, 0.01)
    network.card = Card(title="small", task="ct-denoise", modality="CT")
    return network


def begin(path, scan=None, network=None, **options):
    return restore_to_zarr(
        small_ct() if scan is None else scan,
        network or small_network(),
        path,
        **{"slices_per_slab": PER_SLAB, **options},
    )


def do(path, **options):
    return finish(begin(path, **options))


def stop_after(steps, slabs):
    """Run until a number of slabs is saved, then close."""
    saved = 0
    for progress in steps:
        saved += progress.phase is Phase.SAVED
        if saved == slabs:
            steps.close()
            return


def shards(path):
    """The bytes of every shard, by name."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and "c" in file.relative_to(path).parts
    }


def lines(path):
    return [line for file in sorted((path / "job").glob("done*.jsonl")) for line in file.read_text().splitlines()]


LONG = {"slices": 160, "side": 40}


def run_to_end(path):
    """Run a job of some seconds, or the rest of it; each slab is a single slice."""
    return do(path, scan=small_ct(**LONG), resume=True, slices_per_slab=1)
