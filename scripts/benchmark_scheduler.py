"""The overhead of a dask scheduler: the first slice, and a whole scan, compared with the same on this computer.

    .venv/bin/python scripts/benchmark_scheduler.py [--rounds N] [--slices N] [--side N] [--json FILE]

Both are the jobs that the panel starts, single-threaded, in slabs of their size: here, and by one worker. A worker has
not run this program before its first job, which is counted separately. The results are compared bit by bit before any
time is accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Read when PyTorch is imported, here and in the worker.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from served import machine, middle

from napari_restore_rwkv import Scan, load_checkpoint, open_scan, write_scan
from napari_restore_rwkv.gui.restore.steps import SLICES_PER_SLAB, SLICES_PER_SLAB_OF_A_WORKER
from napari_restore_rwkv.jobs.cluster import Source
from napari_restore_rwkv.jobs.job import JobOptions, ZarrJob
from napari_restore_rwkv.jobs.staged_cluster_job import StagedClusterJob
from napari_restore_rwkv.scans.options import OpenOptions


def main() -> None:
    """Measure, print, and save the figures as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scheduler-") as name:
        found = {
            "machine": machine(),
            "slices": arguments.slices,
            "side": arguments.side,
            **compared(Path(name), arguments.rounds, (arguments.slices, arguments.side, arguments.side)),
        }
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def compared(folder: Path, rounds: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Run the job here and through a scheduler in turns, and return what the scheduler adds."""
    from distributed import LocalCluster

    path = folder / "scan.nii"
    write_scan(noisy(shape), path)
    scan, network = open_scan(path, modality="CT"), load_checkpoint("ct-denoise")
    source = Source(str(path), "ct-denoise", OpenOptions(modality="CT"), device="cpu")
    alone: JobOptions = {"slices_per_slab": SLICES_PER_SLAB, "first": shape[0] // 2}
    shared: JobOptions = {**alone, "slices_per_slab": SLICES_PER_SLAB_OF_A_WORKER}
    first_later, longer = [], []
    for number in range(rounds):
        here, there = folder / f"here-{number}.ome.zarr", folder / f"there-{number}.ome.zarr"
        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            cold, _ = timed(StagedClusterJob(address, source, scan, network, folder / f"{number}.ome.zarr", **shared))
            first_here, all_here = timed(ZarrJob(scan, network, here, **alone))
            first_there, all_there = timed(StagedClusterJob(address, source, scan, network, there, **shared))
        if not np.array_equal(np.asarray(open_scan(here).voxels), np.asarray(open_scan(there).voxels)):
            raise SystemExit("the scheduler gave another result")
        first_later.append((cold - first_here, first_there - first_here))
        longer.append(all_there / all_here)
        print(
            f"here {first_here:.2f} / {all_here:.2f} s, there {first_there:.2f} / {all_there:.2f} s, cold {cold:.2f} s"
        )
    return {
        "first_slice_later_s": middle(warm for _, warm in first_later),
        "first_slice_of_a_new_worker_later_s": middle(cold for cold, _ in first_later),
        "whole_scan_ratio": middle(longer),
    }


def timed(job: ZarrJob) -> tuple[float, float]:
    """Run a job; seconds until its first slice, and until its end."""
    first, start = None, time.perf_counter()
    for step in job.run():
        if first is None and step.region is not None:
            first = time.perf_counter() - start
    if first is None:
        raise SystemExit("a job without a slice")
    return first, time.perf_counter() - start


def noisy(shape: tuple[int, int, int]) -> Scan:
    """Tissue of 40 HU with noise."""
    voxels = np.random.default_rng(0).normal(40, 30, shape).astype(np.int16)
    return Scan(voxels, (5.0, 0.8, 0.8), modality="CT", unit="HU")


if __name__ == "__main__":
    main()
