"""Time the light network on one slice beside its plain form, an earlier version, a U-Net, and classical filters.

    .venv/bin/python scripts/benchmark_speed.py [--sides N ...] [--threads N ...] [--repeats N] [--before FOLDER]
                                                [--full] [--json FILE]

Each way is a process of its own, so that no threads of one disturb another; they take turns, so that other programs on
the machine meet all of them. Told are the medians of the time that passed and of the time that the processor spent, and
the ratios to the network within each turn. Where other programs run, the processor's time says more, most of all with
one thread. Before anything is timed, the fused network has to agree with the plain one to 1e-5.

--before FOLDER is a checkout of an earlier version whose kernel was built into its package. "share" is what the network
reaches of the rate of a large matrix product with as many threads. BM3D is timed where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Multiply-adds of the light and of the full network for a pixel, counted twice.
FLOP_PER_PIXEL = {"network": 2 * 1.33e9 / 128**2, "full network": 2 * 37.3e9 / 128**2}
PRODUCT_SIDE = 1536
ENVIRONMENT: dict[str, dict[str, str]] = {
    "plain network": {"RESTORE_RWKV_FUSED": "0"},
    "network, AVX2": {"BI_WKV_INSTRUCTION_SET": "AVX2"},
    "before, AVX2": {
        "BI_WKV_INSTRUCTION_SET": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}


def work_of(way: str, side: int) -> Callable[[], object]:
    """What one way does to a noisy slice of this side."""
    import numpy as np
    import torch

    image = np.random.default_rng(0).normal(0.5, 0.05, (side, side)).astype(np.float32)
    if way == "matrix product":
        a, b = torch.rand(2, PRODUCT_SIDE, PRODUCT_SIDE)
        return lambda: a @ b
    if way == "BM3D":
        from benchmark_restoration import bm3d_filtered

        return lambda: bm3d_filtered(image, lambda _: 0.05)
    if way == "non-local means":
        from skimage.restoration import denoise_nl_means

        return lambda: denoise_nl_means(image, 5, 6, 0.05, fast_mode=True)

    from napari_restore_rwkv import RestoreRWKV, load_checkpoint
    from napari_restore_rwkv.restoration.memory import reused_buffers

    if way == "U-Net":
        from unet import UNet

        network: Any = UNet().eval().requires_grad_(False)
    elif "full" in way:
        network = RestoreRWKV.full().fused()
    else:
        network = load_checkpoint("ct-denoise")
    if way.endswith("four turns"):
        network.turns = 4
    batch = torch.from_numpy(image)[None, None]

    def restore() -> object:
        with reused_buffers(), torch.inference_mode():
            return network(batch)

    return restore


def serve(way: str, side: int, threads: int, before: str) -> None:
    """Work once for each line read, and write the seconds that passed and that the processor spent."""
    if way.startswith("before"):
        # An editable installation would be found first.
        sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
        sys.path.insert(0, before)
    import torch

    torch.set_num_threads(threads)
    work = work_of(way, side)
    work()
    print("ready", flush=True)
    for _line in sys.stdin:
        passed, spent = time.perf_counter(), time.process_time()
        work()
        print(json.dumps([time.perf_counter() - passed, time.process_time() - spent]), flush=True)


def measure(ways: list[str], side: int, threads: int, repeats: int, before: str) -> dict[str, Any]:
    """Time all ways on one slice, in turns."""
    started: dict[str, subprocess.Popen[str]] = {}
    for way in ways:
        command = [sys.executable, __file__, "--serve", way, str(side), str(threads), before]
        started[way] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT.get(way, {})},
        )
    for way, process in started.items():
        if process.stdout.readline() != "ready\n":  # type: ignore[union-attr]
            raise SystemExit(f"{way} did not start.")
    turns = [{way: _once(process) for way, process in started.items()} for _ in range(repeats)]
    for process in started.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    unit = next(way for way in ways if way in FLOP_PER_PIXEL)
    table: dict[str, Any] = {
        way: {
            "seconds": _median(turn[way][0] for turn in turns),
            "processor_seconds": _median(turn[way][1] for turn in turns),
            f"x_{unit}": _median(turn[way][0] / turn[unit][0] for turn in turns),
            f"x_{unit}_processor": _median(turn[way][1] / turn[unit][1] for turn in turns),
        }
        for way in ways
    }
    flop, product = FLOP_PER_PIXEL[unit] * side**2, 2 * PRODUCT_SIDE**3
    table["share of the matrix product's rate"] = {
        "seconds": _median(flop / turn[unit][0] / (product / turn["matrix product"][0]) for turn in turns),
        "processor_seconds": _median(flop / turn[unit][1] / (product / turn["matrix product"][1]) for turn in turns),
    }
    return table


def check() -> float:
    """Largest difference between the fused and the plain network; SystemExit where it exceeds 1e-5."""
    import torch

    from napari_restore_rwkv import load_checkpoint

    network, image = load_checkpoint("ct-denoise"), torch.rand(1, 1, 133, 97)
    results = []
    for switch in ("0", "1"):
        os.environ["RESTORE_RWKV_FUSED"] = switch
        with torch.inference_mode():
            results.append(network(image))
    del os.environ["RESTORE_RWKV_FUSED"]
    error = float((results[0] - results[1]).abs().max())
    if error > 1e-5:
        raise SystemExit(f"The fused network differs from the plain one by {error:.1e}. Nothing was measured.")
    return error


def main() -> None:
    """Check, measure, print, and keep the figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version, its kernel built in its package")
    parser.add_argument("--full", action="store_true", help="the full network, not the light one and its peers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        way, side, threads, before = chosen.serve
        serve(way, int(side), int(threads), before)
        return
    before = str(chosen.before.resolve()) if chosen.before else ""
    if chosen.full:
        ways = ["full network", "matrix product", *(["before, full network"] if before else [])]
    else:
        ways = ["network", "plain network", "network, AVX2", "network, four turns", "matrix product"]
        ways += ["U-Net", "non-local means", *(["BM3D"] if find_spec("bm3d") else [])]
        ways += ["before", "before, AVX2"] if before else []
    figures: dict[str, Any] = {
        "processors": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "largest_difference_from_plain": check(),
    }
    for threads in chosen.threads:
        for side in chosen.sides:
            name = f"{side} x {side}, {threads} thread{'s' if threads > 1 else ''}"
            figures[name] = measure(ways, side, threads, chosen.repeats, before)
            print(name, json.dumps(figures[name], indent=1), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def _once(process: subprocess.Popen[str]) -> list[float]:
    process.stdin.write("go\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    return json.loads(process.stdout.readline())  # type: ignore[union-attr]


def _median(values: Any) -> float:
    return round(statistics.median(values), 4)


if __name__ == "__main__":
    main()
