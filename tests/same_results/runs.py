"""A fixed set of small restorations, one for each way that a slice can take through the code."""

import numpy as np
import torch

from napari_restore_rwkv.jobs.audit import finalize
from napari_restore_rwkv.jobs.job import restore_to_zarr
from napari_restore_rwkv.network.checkpoint import KEEPS_MEASURED, OWN_ERROR, Card, save_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.network.non_local_means import NonLocalMeans
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.restoration.tiles import Tile
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.training.fine_tune import fine_tune
from napari_restore_rwkv.training.material import Material
from napari_restore_rwkv.training.options import FineTuneOptions

LOW = {"CT": -1000.0, "MR": 0.0, "PET": 0.0}
HIGH = {"CT": 1200.0, "MR": 900.0, "PET": 12.0}


def scan_of(modality="CT", slices=6, side=20):
    """Ellipses and noise, drawn by NumPy's generator, which gives the same everywhere."""
    rng = np.random.default_rng(1234)
    z, y, x = np.mgrid[:slices, :side, : side + 4]
    voxels = np.full((slices, side, side + 4), 0.1)
    for _ in range(5):
        at_z, at_y, at_x, reach = rng.uniform(0, slices), rng.uniform(0, side), rng.uniform(0, side), side / 4
        inside = (y - at_y) ** 2 + (x - at_x) ** 2 + ((z - at_z) * 3) ** 2 < reach**2
        voxels[inside] = rng.uniform(0.2, 0.9)
    voxels = np.clip(voxels + rng.normal(0, 0.03, voxels.shape), 0, 1)
    values = LOW[modality] + voxels * (HIGH[modality] - LOW[modality])
    dtype = np.float32 if modality == "PET" else np.int16
    unit = {"CT": "HU", "MR": "", "PET": "SUV"}[modality]
    return Scan(values.round(3).astype(dtype), (5.0, 0.8, 0.8), modality=modality, unit=unit)


def network_for(modality="CT", context=0, **details):
    """The smallest network, with weights from NumPy's generator."""
    rng = np.random.default_rng(99)
    torch.manual_seed(99)
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1, context=context).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            # Gains keep their usual values.
            if parameter.ndim > 1:
                deviation = 0.004 if parameter is network.output.weight else 0.1
                parameter.copy_(torch.from_numpy(rng.normal(0, deviation, parameter.shape).astype(np.float32)))
    task = {"CT": "ct-denoise", "MR": "mri-sr", "PET": "pet-low-count"}[modality]
    network.card = Card(title="fixed", task=task, modality=modality, details=details)
    return network


def array(network, scan=None, **options):
    scan = scan_of() if scan is None else scan
    return np.asarray(finish(iter_restore(scan, network, **{"dtype": np.float32, **options})).voxels)


def file_job(folder):
    path = folder / "whole.ome.zarr"
    scan = finish(restore_to_zarr(scan_of(), network_for(), path, dtype=np.float32, slices_per_slab=2))
    return np.asarray(scan.voxels)


def two_parts(folder):
    path = folder / "parts.ome.zarr"
    for number in (2, 1):
        part = (number, 2)
        finish(restore_to_zarr(scan_of(), network_for(), path, dtype=np.float32, slices_per_slab=2, part=part))
    finish(finalize(path))
    return np.asarray(open_scan(path).voxels)


def file_job_with_neighbours(folder):
    path = folder / "neighbours.ome.zarr"
    network = network_for(context=3, **{OWN_ERROR: 4.0})
    job = restore_to_zarr(scan_of(), network, path, dtype=np.float32, slices_per_slab=2, noise=30.0, strength=0.7)
    return np.asarray(finish(job).voxels)


def fine_tuned(folder):
    """A slice restored by weights that were trained for a few steps."""
    clean = scan_of(slices=12, side=32)
    noise = np.random.default_rng(5).normal(0, 40, clean.shape).round()
    noisy = clean.with_voxels((clean.voxels + noise).astype(np.int16))
    network, weights = network_for(), folder / "start.safetensors"
    save_checkpoint(network, network.card, weights)
    options = FineTuneOptions(steps=3, learning_rate=1e-3, score_every=3, crops=((16, 2),), device="cpu")
    tuned = finish(fine_tune(weights, Material(noisy, clean), options)).network(1)
    tuned.card = network.card
    return array(tuned, scan_of(), indices=[2])[2:3]


def all_runs(folder):
    """The results of all runs by name, float32 in the unit of the scan, or int16."""
    knows_noise = network_for(context=3, **{OWN_ERROR: 4.0})
    return {
        "array": array(network_for()),
        "array, integers": array(network_for(), dtype=None),
        "array, along y": array(network_for(), axis="y"),
        "array, neighbours and noise": array(knows_noise, noise=30.0, strength=0.7),
        "array, noise measured": array(knows_noise, scan_of(slices=4, side=64)),
        "array, bfloat16": array(network_for(), precision="bfloat16"),
        "array, tiles": array(network_for(), scan_of(slices=2, side=80), tile=Tile(64)),
        "array, MR": array(network_for("MR", **{KEEPS_MEASURED: True}), scan_of("MR")),
        "array, PET": array(network_for("PET"), scan_of("PET")),
        "array, non-local means": array(NonLocalMeans(30.0), any_modality=True),
        "file job": file_job(folder),
        "two parts": two_parts(folder),
        "file job, neighbours and noise": file_job_with_neighbours(folder),
        "fine-tuned": fine_tuned(folder),
    }
