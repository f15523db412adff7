"""How much faster two processes train than one, single-threaded and with the same total crops per step.

    .venv/bin/python scripts/benchmark_training_processes.py [--rounds N] [--json FILE]

Both are `restore-rwkv train` as a user starts it, on synthetic scans. The time of a step is the difference between a
longer and a shorter run, so that starting and loading do not count. One and two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from served import machine

from napari_restore_rwkv import Scan, write_scan

STEPS = (4, 16)
# The batch and the crops of the paper.
CROPS, SIDE = 4, 128


def main() -> None:
    """Measure, print, and save the figures as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="processes-") as folder:
        write_pairs(Path(folder))
        for number in range(arguments.rounds):
            one, two = (seconds_per_step(Path(folder), processes, number) for processes in (1, 2))
            ratios.append(one / two)
            print(f"one process {one:.3f} s a step, two {two:.3f} s: {one / two:.2f} x faster", flush=True)
    print(f"median {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")
    if arguments.json:
        found = {"machine": machine(), "crops": CROPS, "side": SIDE, "ratios": ratios}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def write_pairs(folder: Path) -> None:
    """Noisy scans and their references, one of them for validation."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        clean = rng.normal(0, 60, (12, 128, 128)).astype(np.float32)
        for kind, voxels in (("target", clean), ("degraded", clean + rng.normal(0, 30, clean.shape))):
            (folder / kind).mkdir(exist_ok=True)
            write_scan(Scan(voxels.astype(np.float32), (3.0, 0.8, 0.8), modality="CT"), folder / kind / f"{name}.mha")


def seconds_per_step(folder: Path, processes: int, number: int) -> float:
    """Return the wall time of a step, all processes together at `CROPS` crops of `SIDE` pixels."""
    short, long = (_seconds(folder, processes, steps, f"{number}-{processes}-{steps}") for steps in STEPS)
    return (long - short) / (STEPS[1] - STEPS[0])


def _seconds(folder: Path, processes: int, steps: int, name: str) -> float:
    config = folder / f"{name}.toml"
    config.write_text(
        f'folder = "state-{name}"\ndevice = "cpu"\n[network]\nsize = "light"\n'
        '[[data]]\ntask = "ct-denoise"\ndegraded = "degraded/a.mha"\ntarget = "target/a.mha"\n'
        '[[validation]]\ntask = "ct-denoise"\ndegraded = "degraded/b.mha"\ntarget = "target/b.mha"\n'
        f"[schedule]\nsteps = {steps}\nbatch = {CROPS // processes}\ncrop = {SIDE}\n"
        f"score_every = {steps}\nscore_slices = 1\nsave_every = 10000\n"
    )
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "napari_restore_rwkv", "train", str(config)]
    start = time.perf_counter()
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
