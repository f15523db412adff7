"""What volumes larger than memory cost.

    .venv/bin/python scripts/benchmark_volumes.py [--json FILE] [--slices N]

Measurements with the shipped CT weights on 512 x 512 slices, each in separate processes:

overhead   a job into OME-Zarr from a zarr, compared with the same slices in memory. The two take turns, because
           other work on the machine would otherwise look like a difference; and the time that the job spends outside of
           the network is measured directly, too.
opening    the middle slice of a zarr of 100 GiB through a job, compared with the network on that slice.
memory     the highest resident memory after each slab, of a job on a volume of 4 GiB; and of opening it.
many       the same over many slabs, with one convolution instead of the network, so that they are quick.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 512
UNIT = 16
GIB = 1 << 30


def main() -> None:
    """Measure, print, and save the figures as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--slices", type=int, default=64, help="slices of the 4 GiB volume to restore")
    parser.add_argument("--many", type=int, default=1024, help="slices of it to send through one convolution")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"threads": arguments.threads, "processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure, options in (
            ("opening", opening, ()),
            ("network alone on one slice", network_alone, ()),
            ("memory", memory, (arguments.slices, False)),
            ("many", memory, (arguments.many, True)),
            ("overhead", overhead, (arguments.repeats,)),
        ):
            figures[name] = in_a_process(measure, Path(folder), arguments.threads, *options)
            print(name, json.dumps(figures[name], indent=1), flush=True)
    more = figures["opening"]["peak_mib"] - figures["network alone on one slice"]["peak_mib"]
    figures["opening"]["mib_beyond_the_network"] = round(more, 1)
    print(f"opening takes {more:.0f} MiB more than the network alone")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def in_a_process(measure: Any, folder: Path, threads: int, *options: Any) -> Any:
    """Run a measurement in a fresh interpreter, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send, args=(theirs, measure, folder, threads, options))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def _send(pipe: Any, measure: Any, folder: Path, threads: int, options: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(threads)
    pipe.send(measure(folder, *options))


def overhead(folder: Path, repeats: int) -> dict[str, Any]:
    """Compare a job of one slab with the same slices in memory, and add up what the job does besides the network."""
    from napari_restore_rwkv.jobs import audit, job, ledger, restore_slabs, slabs
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.restoration.restore import iter_restore
    from napari_restore_rwkv.scans.opening import open_scan

    network = load_checkpoint("ct-denoise")
    lazy = open_scan(noise_zarr(folder / "overhead.zarr", UNIT, UNIT), modality="CT")
    in_memory = lazy.with_voxels(np.asarray(lazy.voxels))
    finish(iter_restore(in_memory, network, indices=[0], output=np.empty(in_memory.shape, np.int16)))
    besides = Stopwatch()
    for place, name in (
        (restore_slabs, "write_slab"),
        (ledger.LedgerWriter, "add_slab"),
        (ledger.LedgerWriter, "add_run"),
        (slabs.SlabQueue, "_opened"),
        (slabs, "slice_digest"),
        (job, "create_ledger"),
        (job, "job_identity"),
        (job, "complete"),
        (audit, "sha256_of"),
    ):
        besides.watch(place, name)
    alone, jobs, outside = [], [], []
    for repeat in range(repeats):
        start = time.perf_counter()
        expected = finish(iter_restore(in_memory, network))
        alone.append(time.perf_counter() - start)
        besides.seconds = 0.0
        start = time.perf_counter()
        result = finish(job.restore_to_zarr(lazy, network, folder / f"overhead_{repeat}.ome.zarr"))
        jobs.append(time.perf_counter() - start)
        outside.append(besides.seconds)
        if not np.array_equal(result.voxels, expected.voxels):
            raise SystemExit("the job gave another result")
    return {
        "slices": UNIT,
        "in_memory_s": [round(value, 3) for value in alone],
        "job_s": [round(value, 3) for value in jobs],
        "outside_the_network_s": [round(value, 3) for value in outside],
        "ratio_of_medians": round(statistics.median(jobs) / statistics.median(alone), 4),
        "measured_share_percent": round(
            100 * statistics.median(o / (j - o) for o, j in zip(outside, jobs, strict=True)), 2
        ),
    }


def opening(folder: Path) -> dict[str, Any]:
    """Time from opening a zarr of 100 GiB until its middle slice is restored, beyond the network's own time."""
    from napari_restore_rwkv.jobs.job import ZarrJob
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.restoration.intensity import IntensityRule
    from napari_restore_rwkv.restoration.restore import restore_slice
    from napari_restore_rwkv.scans.opening import open_scan

    slices = 100 * GIB // (SIDE * SIDE * 2)
    path = noise_zarr(folder / "hundred.zarr", slices, 2 * UNIT, first=slices // 2 - UNIT)
    network = load_checkpoint("ct-denoise")
    # The first pass of a process is slower, for reasons unrelated to this program.
    restore_slice(np.zeros((SIDE, SIDE), np.int16), network, IntensityRule("ct-hu", -1024.0, 3072.0, unit="HU"))
    start = time.perf_counter()
    scan = open_scan(path, modality="CT")
    opened = time.perf_counter()
    job = ZarrJob(scan, network, folder / "hundred.ome.zarr", first=slices // 2)
    for step in job.run():
        if step.region is not None:
            break
    whole = time.perf_counter()
    image = np.asarray(scan.voxels[slices // 2])
    again = time.perf_counter()
    restored = restore_slice(image, network, job._intensity)
    network_s = time.perf_counter() - again
    if not np.array_equal(np.rint(restored), job.voxels[slices // 2]):
        raise SystemExit("the job gave another slice")
    return {
        "gib": 100,
        "units": job.layout.slabs,
        "open_s": round(opened - start, 3),
        "until_the_slice_s": round(whole - start, 3),
        "network_s": round(network_s, 3),
        "beyond_the_network_s": round(whole - start - network_s, 3),
        "peak_mib": peak_mib(),
    }


def network_alone(folder: Path) -> dict[str, Any]:
    """Peak memory of a process that restores one slice of noise and nothing else."""
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.restoration.intensity import IntensityRule
    from napari_restore_rwkv.restoration.restore import restore_slice

    network = load_checkpoint("ct-denoise")
    image = np.random.default_rng(0).integers(-1000, 1500, (SIDE, SIDE), dtype=np.int16)
    restore_slice(image, network, IntensityRule("ct-hu", -1024.0, 3072.0, unit="HU"))
    return {"peak_mib": peak_mib()}


def memory(folder: Path, slices: int, cheap: bool) -> dict[str, Any]:
    """Peak memory after each slab of a volume of 4 GiB, of which the first slices are restored."""
    import torch

    from napari_restore_rwkv.jobs.job import ZarrJob
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import Phase
    from napari_restore_rwkv.scans.opening import open_scan

    path = noise_zarr(folder / f"four_{slices}.zarr", 4 * GIB // (SIDE * SIDE * 2), slices)
    network = torch.nn.Conv2d(1, 1, 3, padding=1).eval() if cheap else load_checkpoint("ct-denoise")
    scan = open_scan(path, modality="CT")
    peaks = {"opened": peak_mib()}
    for step in ZarrJob(scan, network, folder / f"four_{slices}.ome.zarr").run():
        if step.phase is Phase.SAVED:
            peaks[f"{step.done} slices"] = peak_mib()
        if step.done >= slices:
            break
    return {"gib": 4, "slices_in_all": scan.shape[0], "threads": threading.active_count(), "peak_mib": peaks}


class Stopwatch:
    """Sums the time that functions take, counting nested calls once."""

    def __init__(self) -> None:
        self.seconds, self._inside = 0.0, False

    def watch(self, place: Any, name: str) -> None:
        """Time a function of a module or class."""
        original = getattr(place, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            self._inside, start = True, time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self._inside = False
                self.seconds += time.perf_counter() - start

        setattr(place, name, timed)


def noise_zarr(path: Path, slices: int, filled: int, first: int = 0) -> Path:
    """Create a plain zarr of CT numbers in which only some slices have content: noise, which does not compress."""
    import zarr

    array: Any = zarr.create_array(path, shape=(slices, SIDE, SIDE), chunks=(4, 256, 256), dtype=np.int16)
    rng = np.random.default_rng(1)
    for at in range(first, first + filled, UNIT):
        array[at : at + UNIT] = rng.normal(40, 300, (UNIT, SIDE, SIDE)).clip(-1000, 2000).astype(np.int16)
    return path


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
