"""Measure how much slower each kind of work gets beside a busy process, and at which priority.

    .venv/bin/python scripts/benchmark_contention.py [--work NAME ...] [--rounds N] [--json FILE]

Each kind of work runs in a process of its own that has imported PyTorch, and used its threads, before the package: the
worst case. It is timed alone and beside one busy process in turns, so that other programs meet both, at the usual
priority and at 10; the ratio of the two is what counts. Two thirds of two processors are left to it beside one busy
process of its own priority, one beside a process that goes first: a fair share is 1.5 to 2 times the time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRIORITIES = (0, 10)


def restoring() -> Callable[[], object]:
    """Two slices of 512 x 512 through `restore`, as the panel and the command line do it."""
    import numpy as np

    from napari_restore_rwkv import Scan, finish, load_checkpoint, restore

    voxels = np.random.default_rng(0).normal(0, 30, (2, 512, 512)).astype(np.float32)
    scan, network = Scan(voxels, (5.0, 0.8, 0.8), modality="CT"), load_checkpoint("ct-denoise")
    return lambda: finish(restore(scan, network, axis="z"))


def calling_the_network() -> Callable[[], object]:
    """The network called as a function, on one image of 512 x 512."""
    import torch

    from napari_restore_rwkv import load_checkpoint

    network, image = load_checkpoint("ct-denoise"), torch.rand(1, 1, 512, 512)

    def call() -> object:
        with torch.inference_mode():
            return network(image)

    return call


def training() -> Callable[[], object]:
    """Three steps on two crops of 64 x 64."""
    import torch

    from napari_restore_rwkv import RestoreRWKV
    from napari_restore_rwkv.training.train import Trainer, TrainingOptions

    trainer = Trainer(
        RestoreRWKV.light(), lambda _: (torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64)), TrainingOptions(10**6)
    )
    steps = trainer.run()
    return lambda: [next(steps) for _ in range(3)]


def simulating() -> Callable[[], object]:
    """A PET of 24 slices of 64 x 64 with fewer counts; packing training slices does the same."""
    import numpy as np

    from napari_restore_rwkv import Scan, finish
    from napari_restore_rwkv.simulate.whole_scan import simulate

    y, x = np.mgrid[:64, :64] - 31.5
    body = np.repeat((np.hypot(y, x) < 24).astype(np.float32)[None], 24, axis=0)
    scan = Scan(body, (4.0, 4.0, 4.0), modality="PET")
    return lambda: finish(simulate(scan, "pet-low-count", seed=0))


WORK = {
    "restore": restoring,
    "network": calling_the_network,
    "train": training,
    "simulate": simulating,
}


def serve(name: str) -> None:
    """Do the work once for each line read, and write its seconds."""
    import torch

    # As a program would have done that imports the package late.
    _ = torch.rand(512, 512) @ torch.rand(512, 512)
    work = WORK[name]()
    work()
    for _line in sys.stdin:
        wall, used = time.perf_counter(), time.process_time()
        work()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - used]), flush=True)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Median seconds of one kind of work, alone and beside a busy process, at each priority."""
    table: dict[str, Any] = {}
    for priority in PRIORITIES:
        command = [sys.executable, __file__, "--serve", name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda p=priority: os.nice(p)
        ) as process:
            pairs = [(_seconds(process), _beside_busy(process)) for _ in range(rounds)]
            process.stdin.close()  # type: ignore[union-attr]
        ratios = [busy[0] / alone[0] for alone, busy in pairs]
        table[f"priority {priority}"] = {
            "alone_s": round(statistics.median(alone[0] for alone, _ in pairs), 3),
            "beside_one_busy_s": round(statistics.median(busy[0] for _, busy in pairs), 3),
            "times_slower": round(statistics.median(ratios), 2),
            "from_to": [round(min(ratios), 2), round(max(ratios), 2)],
            "processor_alone_s": round(statistics.median(alone[1] for alone, _ in pairs), 3),
            "processor_beside_s": round(statistics.median(busy[1] for _, busy in pairs), 3),
        }
    return table


def main() -> None:
    """Measure, print, and keep the figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=tuple(WORK), default=list(WORK))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", choices=tuple(WORK), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    figures = {
        "processors": os.cpu_count(),
        "load_average_before": [round(value, 1) for value in os.getloadavg()],
        "work": {name: measure(name, chosen.rounds) for name in chosen.work},
    }
    print(json.dumps(figures, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def _seconds(process: subprocess.Popen[str]) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    print("go", file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def _beside_busy(process: subprocess.Popen[str]) -> list[float]:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return _seconds(process)
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    main()
