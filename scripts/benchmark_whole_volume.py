"""A volume of 4 GiB from its first slice to its last, with the peak memory of every process that worked on it.

    .venv/bin/python scripts/benchmark_whole_volume.py FOLDER [--json FILE] [--slices N] [--stop-after N]

The volume is the sample CT, repeated, with fresh noise on every slice: 4096 slices of 512 x 512 float32 in a zarr that
is made first. One process of one thread restores it with the shipped light network, slice by slice, as
`restore-rwkv restore` does. The same command continues after an interruption of any kind; the memory of each process
is recorded in FOLDER/log.jsonl. At the end every file is compared with its digest, and some slices with a restoration
in memory, bit by bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_volumes import peak_mib

SIDE, SLICES = 512, 4096
SLAB = 16
NOISE_HU = 10.0
COMPARED = 4


def main() -> None:
    """Create the volume, restore what is left of it, check it, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the volume, the result and the log; needs 8 GB")
    parser.add_argument("--json", type=Path, help="file for the figures, once all is done")
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--stop-after", type=int, metavar="N", help="stop after this many slices, as if interrupted")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    log = arguments.folder / "log.jsonl"
    source, output = arguments.folder / "volume.zarr", arguments.folder / "restored.ome.zarr"
    if not source.exists():
        make_volume(source, arguments.slices)
    if restored(source, output, log, arguments.stop_after):
        figures = {**summary(log), **checked(source, output)}
        print(json.dumps(figures, indent=1))
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def make_volume(path: Path, slices: int) -> None:
    """Write the volume; it gets its name when it is complete."""
    import zarr

    from napari_restore_rwkv.scans.files import read_scan
    from napari_restore_rwkv.scans.samples import sample_path

    sample = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz")).voxels
    made = path.with_name(f"{path.name}.partial")
    array: Any = zarr.create_array(
        made, shape=(slices, SIDE, SIDE), chunks=(4, 256, 256), dtype=np.float32, overwrite=True
    )
    for start in range(0, slices, SLAB):
        stop = min(start + SLAB, slices)
        noise = np.random.default_rng((7, start)).normal(0, NOISE_HU, (stop - start, SIDE, SIDE)).astype(np.float32)
        array[start:stop] = np.stack([sample[z % len(sample)] for z in range(start, stop)]) + noise
    os.rename(made, path)


def restored(source: Path, output: Path, log: Path, stop_after: int | None) -> bool:
    """Restore what is left, recording each slab and the memory so far; return whether everything is done."""
    import torch

    from napari_restore_rwkv.jobs.job import ZarrJob
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import Phase
    from napari_restore_rwkv.scans.opening import open_scan

    torch.set_num_threads(1)
    scan = open_scan(source, modality="CT")
    job = ZarrJob(scan, load_checkpoint("ct-denoise"), output, resume=True)
    process = {"process": os.getpid(), "started": round(time.time())}
    note(log, process | {"slices_in_all": scan.shape[0], "gib": scan.voxels.nbytes / (1 << 30), "peak_mib": peak_mib()})
    first = last = time.perf_counter()
    saved = 0
    for step in job.run():
        if step.phase is not Phase.SAVED:
            continue
        now = time.perf_counter()
        slices = step.region[0].stop - step.region[0].start if step.region else 0
        saved += slices
        line = {"slices_done": step.done, "seconds_per_slice": (now - last) / slices, "peak_mib": peak_mib()}
        note(log, process | line)
        print(
            f"{step.done} of {step.total} slices, {line['seconds_per_slice']:.2f} s each, {line['peak_mib']} MiB",
            flush=True,
        )
        last = now
        if stop_after and saved >= stop_after:
            print(f"stopped after {saved} slices in {now - first:.0f} s; the same command continues")
            return False
    note(log, process | {"complete": True, "peak_mib": peak_mib()})
    return True


def summary(log: Path) -> dict[str, Any]:
    """Return the total over all processes."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = [line["seconds_per_slice"] for line in lines if "seconds_per_slice" in line]
    return {
        "slices": lines[0]["slices_in_all"],
        "gib": lines[0]["gib"],
        "processes": len({(line["process"], line["started"]) for line in lines}),
        "peak_mib": max(line["peak_mib"] for line in lines),
        "peak_mib_of_the_first_unit": next(line["peak_mib"] for line in lines if "slices_done" in line),
        "seconds_per_slice": {
            "median": round(statistics.median(seconds), 3),
            "from_to": [round(min(seconds), 3), round(max(seconds), 3)],
        },
        "hours": round(SLAB * sum(seconds) / 3600, 2),
    }


def checked(source: Path, output: Path) -> dict[str, Any]:
    """Compare every file with its digest, and some slices with a restoration in memory."""
    from napari_restore_rwkv.jobs.audit import verify
    from napari_restore_rwkv.network.checkpoint import load_checkpoint
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.restoration.intensity import choose_intensity
    from napari_restore_rwkv.restoration.restore import restore_slice
    from napari_restore_rwkv.scans.opening import open_scan

    if not finish(verify(output)).sound:
        raise SystemExit("the result is not as it was written")
    scan, result, network = open_scan(source, modality="CT"), open_scan(output), load_checkpoint("ct-denoise")
    for z in np.linspace(0, scan.shape[0] - 1, COMPARED).astype(int).tolist():
        if not np.array_equal(restore_slice(scan.voxels[z], network, choose_intensity(scan)), result.voxels[z]):
            raise SystemExit(f"slice {z} is another than in memory")
    return {"verified": True, "slices_compared_bit_by_bit": COMPARED}


def note(log: Path, line: dict[str, Any]) -> None:
    """Append a line to the log."""
    with log.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
