"""What distributing a job gains, what one slice takes, and how large a restored archive would be.

    .venv/bin/python scripts/benchmark_scale_out.py [--json FILE] [--only NAME ...]

parts      the same job as one part and as two parts, in single-threaded processes that start together. What they
                      write is compared bit by bit with the result of a restoration in memory, before any time is
                      accepted.
cluster    the same through a dask scheduler with one worker and with two, of one thread each.
slice      the highest resident memory of a process that restores one square slice, as a whole and in strips of rows.
           Both results are compared bit by bit.
storage    bytes of a real CT on disk, original and restored, and of the ledger.

One and two take turns, because other work on the machine would otherwise look like a difference. If that is not
enough, the CPU time of the busiest process says what the wall clock would show on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_volumes import in_a_process, peak_mib

PER_SLAB = 2
SIDES = {"light": (256, 512, 1024, 2048), "full": (256, 512)}
# Long enough for the start and end of a job to be small in comparison.
SLICES = 16


def main() -> None:
    """Measure, print, and save the figures as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures; those of an earlier run are kept beside them")
    parser.add_argument(
        "--only", nargs="+", choices=("parts", "cluster", "slice", "storage"), help="measure only these"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", type=int, default=512, help="rows and columns of the slices that are shared out")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"processors": os.cpu_count()}
    if arguments.json and arguments.json.exists():
        figures = json.loads(arguments.json.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for wanted, measure in (
            ("parts", lambda: speed_up(folder, arguments.side, arguments.repeats, in_parts)),
            ("cluster", lambda: speed_up(folder, arguments.side, arguments.repeats, in_a_cluster)),
            ("slice", lambda: {kind: slice_memory(folder, kind, arguments.repeats) for kind in SIDES}),
            ("storage", lambda: in_a_process(storage, folder, 1)),
        ):
            if arguments.only and wanted not in arguments.only:
                continue
            figures[wanted] = measure()
            print(wanted, json.dumps(figures[wanted], indent=1), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def speed_up(folder: Path, side: int, repeats: int, run: Any) -> dict[str, Any]:
    """Time a job on one core and on two in turn, and compare what they write with a restoration in memory."""
    source = folder / f"source_{side}.zarr"
    if not source.exists():
        noisy_ct(source, SLICES, side)
    expected = in_a_process(restored_in_memory, folder, 1, source)
    wall: dict[int, list[float]] = {1: [], 2: []}
    busy: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats + 1):
        for count in (1, 2):
            output = folder / f"{run.__name__}_{count}_{repeat}.ome.zarr"
            seconds, of_busiest = run(source, output, count)
            if in_a_process(voxels_digest, folder, 1, output) != expected:
                raise SystemExit(f"{count} at work gave another result")
            shutil.rmtree(output)
            # The first of each warms up the file system.
            if repeat:
                wall[count].append(round(seconds, 2))
                busy[count].append(round(of_busiest, 2))
    return {
        "slices": SLICES,
        "side": side,
        "bit_identical": True,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "wall_clock": _ratio(wall),
        "processor_time_of_the_busiest": _ratio(busy),
    }


def _ratio(seconds: dict[int, list[float]]) -> dict[str, Any]:
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "one_s": seconds[1],
        "two_s": seconds[2],
        "speed_up": round(statistics.median(ratios), 3),
        "from_to": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def in_parts(source: Path, output: Path, count: int) -> tuple[float, float]:
    """Run this many parts, each in its own process, started together.

    Returns the seconds until the end of the last, and the CPU time of the one that took most.
    """
    context = multiprocessing.get_context("spawn")
    together, busy = context.Barrier(count + 1), context.Queue()
    processes = [
        context.Process(target=_one_part, args=(source, output, (number, count), together, busy))
        for number in range(1, count + 1)
    ]
    for process in processes:
        process.start()
    together.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    if any(process.exitcode for process in processes):
        raise SystemExit("a part has failed")
    of_busiest = max(busy.get() for _ in processes)
    from napari_restore_rwkv.jobs.audit import finalize
    from napari_restore_rwkv.progress import finish

    finish(finalize(output))
    return seconds, of_busiest


def _one_part(source: Path, output: Path, part: tuple[int, int], together: Any, busy: Any) -> None:
    import torch

    from napari_restore_rwkv.jobs.job import restore_to_zarr
    from napari_restore_rwkv.progress import finish

    torch.set_num_threads(1)
    scan, network = _warm(source)
    together.wait()
    before = time.process_time()
    finish(restore_to_zarr(scan, network, output, part=part, slices_per_slab=PER_SLAB))
    busy.put(time.process_time() - before)


def in_a_cluster(source: Path, output: Path, count: int) -> tuple[float, float]:
    """Run a job through this many single-threaded workers; seconds as for `in_parts`."""
    from distributed import Client, LocalCluster

    from napari_restore_rwkv.jobs.cluster import ClusterJob, Source
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.scans.options import OpenOptions

    workers = LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None)
    with workers as cluster, Client(cluster) as client:
        scan, network = _warm(source)
        where = Source(str(source), "ct-denoise", OpenOptions(modality="CT"))
        client.run(_warm_worker, where)
        job = ClusterJob(cluster.scheduler_address, where, scan, network, output, slices_per_slab=PER_SLAB)
        before = client.run(time.process_time)
        start = time.perf_counter()
        finish(job.run())
        seconds, after = time.perf_counter() - start, client.run(time.process_time)
        return seconds, max(after[worker] - before[worker] for worker in before)


def _warm_worker(source: Any) -> None:
    import torch

    from napari_restore_rwkv.jobs.cluster import _opened
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.restoration.restore import iter_restore

    torch.set_num_threads(1)
    finish(iter_restore(*_opened(source), indices=[0], output=np.empty(_opened(source)[0].shape, np.int16)))


def _warm(source: Path) -> tuple[Any, Any]:
    """Open input and weights and restore one slice, which is slower than the following ones."""
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.restoration.restore import iter_restore
    from napari_restore_rwkv.scans.opening import open_scan

    scan, network = open_scan(source, modality="CT"), load_checkpoint("ct-denoise")
    finish(iter_restore(scan, network, indices=[0], output=np.empty(scan.shape, np.int16)))
    return scan, network


def restored_in_memory(folder: Path, source: Path) -> str:
    """Digest of the result that all others have to match."""
    from napari_restore_rwkv.jobs.digests import slice_digest
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.restoration.restore import iter_restore
    from napari_restore_rwkv.scans.opening import open_scan

    return slice_digest(finish(iter_restore(open_scan(source, modality="CT"), load_checkpoint("ct-denoise"))).voxels)


def voxels_digest(folder: Path, output: Path) -> str:
    """Digest of the voxels of a result on disk."""
    from napari_restore_rwkv.jobs.digests import slice_digest
    from napari_restore_rwkv.scans.opening import open_scan

    return slice_digest(np.asarray(open_scan(output).voxels))


def slice_memory(folder: Path, kind: str, repeats: int) -> dict[str, Any]:
    """Peak memory of processes that restore one slice of each size, whole and in strips, and what was estimated."""
    bare = statistics.median(in_a_process(one_slice, folder, 1, kind, 8, False)[0] for _ in range(repeats))
    rows: dict[str, Any] = {"process_and_weights_mib": bare}
    for side in SIDES[kind]:
        row: dict[str, Any] = {}
        digests = set()
        for name, in_strips in (("whole", False), ("in strips", True)):
            runs = [in_a_process(one_slice, folder, 1, kind, side, in_strips) for _ in range(repeats)]
            digests |= {digest for *_, digest in runs}
            row[name] = {
                "peak_mib": statistics.median(peak for peak, *_ in runs),
                "from_to": [min(peak for peak, *_ in runs), max(peak for peak, *_ in runs)],
                "estimated_mib_besides_the_process": runs[0][1],
                "seconds": round(statistics.median(seconds for _, _, seconds, _ in runs), 2),
            }
        if len(digests) != 1:
            raise SystemExit("strips gave another result")
        rows[f"{side} x {side}"] = row
        print(kind, side, json.dumps(row), flush=True)
    return rows


def one_slice(folder: Path, kind: str, side: int, in_strips: bool) -> tuple[float, float, float, str]:
    """Restore a slice of noise; peak memory, what was estimated for it in MiB, seconds, and a digest of the result."""
    import torch

    from napari_restore_rwkv.jobs.digests import slice_digest
    from napari_restore_rwkv.network.model import RestoreRWKV
    from napari_restore_rwkv.restoration.executor import Executor
    from napari_restore_rwkv.restoration.machine import Machine
    from napari_restore_rwkv.restoration.memory import reused_buffers
    from napari_restore_rwkv.restoration.memory_estimate import bytes_per_slice

    class Short(Machine):
        def has_room(self, size: int, *, all_of_it: bool = False) -> bool:
            return all_of_it or not in_strips

    torch.manual_seed(0)
    network = getattr(RestoreRWKV, kind)()
    torch.nn.init.normal_(network.output.weight, std=0.01)
    network = network.fused()
    image = np.random.default_rng(0).random((side, side), np.float32)
    start = time.perf_counter()
    with reused_buffers(), Executor(network, Short(torch.device("cpu"))) as executor:
        for _ in executor.submit([image]):
            pass
        [result] = executor.collect()
    estimated = bytes_per_slice(network, side, side, in_strips=in_strips) / (1 << 20)
    return peak_mib(), round(estimated, 1), time.perf_counter() - start, slice_digest(result)


def storage(folder: Path) -> dict[str, Any]:
    """Bytes for each slice of the sample CT: uncompressed, on disk (original and restored), and in the ledger."""
    from napari_restore_rwkv.jobs.job import restore_to_zarr
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.scans.files import read_scan
    from napari_restore_rwkv.scans.samples import sample_path
    from napari_restore_rwkv.scans.zarr.writing import choose_layout, create_image, write_slab

    file = sample_path("ct_abdomen_quarter_dose.nii.gz")
    scan = read_scan(file)
    layout = choose_layout(scan.shape, scan.voxels.dtype, 0)
    create_image(folder / "input.ome.zarr", scan, layout)
    start = time.perf_counter()
    for slab in range(layout.slabs):
        slices = layout.slices(slab)
        write_slab(folder / "input.ome.zarr", layout, slab, scan.voxels[slices.start : slices.stop])
    writing = time.perf_counter() - start
    start = time.perf_counter()
    finish(restore_to_zarr(scan, load_checkpoint("ct-denoise"), folder / "output.ome.zarr"))
    seconds = time.perf_counter() - start
    slices = scan.shape[0]
    bytes_of = {
        "uncompressed": scan.voxels.nbytes,
        "input as nii.gz": file.stat().st_size,
        "input as zarr, full resolution": _bytes_in(folder / "input.ome.zarr" / "0"),
        "result, full resolution": _bytes_in(folder / "output.ome.zarr" / "0"),
        "result, all levels": sum(_bytes_in(path) for path in (folder / "output.ome.zarr").glob("[0-9]")),
        "ledger": _bytes_in(folder / "output.ome.zarr" / "job"),
    }
    return {
        "slices": slices,
        "shape": list(scan.shape),
        "bytes_per_slice": {name: round(size / slices) for name, size in bytes_of.items()},
        "files_of_the_result": sum(path.is_file() for path in (folder / "output.ome.zarr").rglob("*")),
        "compressing_and_writing_s_per_slice": round(writing / slices, 4),
        "restoring_s_per_slice": round(seconds / slices, 3),
    }


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def noisy_ct(path: Path, slices: int, side: int) -> None:
    """Write the sample CT, cut to size and repeated, with fresh noise on each slice, as a plain zarr."""
    import zarr

    from napari_restore_rwkv.scans.files import read_scan
    from napari_restore_rwkv.scans.samples import sample_path

    sample = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz")).voxels
    rng = np.random.default_rng(3)
    voxels = np.stack([np.resize(sample[z % len(sample)], (side, side)) for z in range(slices)])
    noise = rng.normal(0, 10, voxels.shape).round()
    array: Any = zarr.create_array(path, shape=voxels.shape, chunks=(PER_SLAB, side, side), dtype=np.int16)
    array[:] = (voxels + noise).astype(np.int16)


if __name__ == "__main__":
    main()
