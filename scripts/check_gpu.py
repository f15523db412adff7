"""Verify the GPU kernel on the installed GPU, then measure it.

    python scripts/check_gpu.py [--quick]

Needs PyTorch with CUDA, cuda-core and some five minutes, but no network, and no installation of this package. First the
checks (`src_kernels/gates_gpu.py`), partly under compute-sanitizer if that is found; only if all hold, the times
(`src_kernels/benchmark_gpu.py`). Both are saved in benchmarks/gpu_DEVICE.json and .md. Exit code 1: a check failed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src_kernels")]

import benchmark_gpu  # noqa: E402 - found only now
import gates_gpu  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from gates_gpu import Gate  # noqa: E402

from napari_restore_rwkv.network import cuda_kernels  # noqa: E402
from napari_restore_rwkv.network.bi_wkv import kernel_in_use  # noqa: E402
from napari_restore_rwkv.network.cuda_compiler import nvrtc_version  # noqa: E402
from napari_restore_rwkv.scans.scan import Scan  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

SANITIZER_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SAMPLE = ROOT / "sample_data" / "ct_abdomen_quarter_dose.nii.gz"
# A float32 matrix product may sum in another order for another number of rows.
SAME_HU = 0.05
# cuBLAS keeps a workspace of at most 32 MiB per stream.
LEFT_MIB = 64
PACKAGES = ("torch", "cuda-core", "cuda-bindings", "numpy")

# How many seconds a fresh process waits before the kernel can run, or why it cannot.
START = """
import sys, time, torch
sys.path.insert(0, sys.argv[1])
device = torch.zeros(1, device="cuda").device
from napari_restore_rwkv.network import cuda_kernels
start = time.perf_counter()
why = cuda_kernels.unavailable(device)
print(why or time.perf_counter() - start)
"""


def main() -> int:
    """Check, measure, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and runs, no sanitizer: about a minute")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder of the results")
    parser.add_argument("--sanitize", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    status = kernel_in_use("cuda")
    if status.why:
        print(f"The compiled kernel does not run here. {status.why}")
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    if options.sanitize:
        return sanitized(device)

    results: dict[str, Any] = {"environment": environment(device)}
    print("\n".join(f"{name}: {value}" for name, value in results["environment"].items()), flush=True)
    gates = []
    inference = inference_on_sample(device)
    for gate in (*all_gates(device, options.quick), *inference_gates(inference)):
        print(f"{'holds ' if gate.holds else 'FAILED'}  {gate.name}: {gate.found}", flush=True)
        gates.append(gate)
    results["checks"] = [asdict(gate) for gate in gates]
    holds = all(gate.holds for gate in gates)
    if holds:
        if inference:
            results["inference, sample CT, light network"] = inference_table(inference)
        for title, table in measurements(device, options.quick):
            results[title] = table
            print(as_text(title, table), flush=True)
        results["targets"] = targets(results)
        print(as_text("targets", results["targets"]))
    else:
        print("Nothing was measured: a check failed.")
    write(results, options.output)
    return 0 if holds else 1


def environment(device: torch.device) -> dict[str, str]:
    """Hardware, versions and date."""
    properties = torch.cuda.get_device_properties(device)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", f"--id={device.index}"]
    found = {"device": properties.name, "architecture": cuda_kernels.architecture(device)}
    found["multiprocessors"] = str(properties.multi_processor_count)
    found["memory"] = f"{properties.total_memory / 2**30:.0f} GiB"
    found["driver"] = _answer_of(query)
    found["NVRTC"] = ".".join(map(str, nvrtc_version()))
    found["CUDA of torch"] = str(torch.version.cuda)
    for package in PACKAGES:
        found[package] = metadata.version(package)
    found["Python"] = platform.python_version()
    found["source"] = _answer_of(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    found["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    return found


def all_gates(device: torch.device, quick: bool) -> Iterator[Gate]:
    """Everything that must hold."""
    yield from gates_gpu.parity(device, gates_gpu.SMALLEST if quick else gates_gpu.SIZES)
    yield from gates_gpu.large_parity(device)
    yield from gates_gpu.extremes(device)
    yield from gates_gpu.repeatable(device)
    yield from gates_gpu.graphs(device)
    yield from gates_gpu.streams_and_threads(device)
    yield from gates_gpu.autocast(device)
    if not quick:
        yield from sanitizer()


def sanitizer() -> Iterator[Gate]:
    """The smallest problems again, with each tool of compute-sanitizer checking every access."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        print("not checked  compute-sanitizer: it is not on the PATH", flush=True)
        return
    for tool in SANITIZER_TOOLS:
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--sanitize"]
        # In torch's pool an overrun from one block into the next would go unnoticed.
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200
            )
        except subprocess.TimeoutExpired:
            yield Gate(f"compute-sanitizer {tool}", False, "took more than 200 s")
            continue
        summary = re.findall(r"=+ ((?:ERROR|RACECHECK) SUMMARY: .*)", done.stdout)
        last = (summary or done.stdout.strip().splitlines() or ["nothing was said"])[-1]
        yield Gate(f"compute-sanitizer {tool}", done.returncode == 0 and bool(summary), last)


def sanitized(device: torch.device) -> int:
    """What runs under the sanitizer: a few problems, whose results must also be correct, in uninitialised memory."""
    return 0 if all(gate.holds for gate in gates_gpu.parity(device, gates_gpu.WATCHED, poisoned=False)) else 1


def inference_on_sample(device: torch.device) -> dict[str, Any]:
    """Restore the sample CT with the shipped network in every available way; nothing if a library is missing."""
    try:
        from napari_restore_rwkv.network.checkpoint import load_checkpoint
        from napari_restore_rwkv.restoration.verification import check_inference
    except ImportError as error:
        print(f"not checked  inference: {error}", flush=True)
        return {}
    return check_inference(load_checkpoint("ct-denoise"), sample_scan(), device)


def sample_scan() -> Scan:
    """Read the sample CT by hand, since SimpleITK may be missing: a NIfTI of int16, little-endian."""
    content = gzip.decompress(SAMPLE.read_bytes())
    x, y, z = struct.unpack_from("<3h", content, 42)
    [voxels_at] = struct.unpack_from("<f", content, 108)
    voxels = np.frombuffer(content, "<i2", x * y * z, int(voxels_at)).reshape(z, y, x)
    return Scan(voxels, modality="CT", unit="HU")


def inference_gates(found: dict[str, Any]) -> Iterator[Gate]:
    """Batches and recordings give the same as single slices, and memory is freed."""
    if not found:
        return
    for name in ("together", "recorded"):
        largest = found["runs"][name]["difference"]["largest"]
        yield Gate(f"inference, {name}", largest <= SAME_HU, f"{largest:.1e} HU from alone (at most {SAME_HU:g})")
    replays = found["runs"]["recorded"]["report"]["cuda_graph"]
    yield Gate(
        "inference, recorded passes", replays["replays"] > 0, replays["why_not"] or f"{replays['replays']} replays"
    )
    left = found["bytes_left"] / 2**20
    yield Gate("inference, memory", left <= LEFT_MIB, f"{left:.0f} MiB left afterwards (at most {LEFT_MIB})")


def inference_table(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How far each way is from float32 slice by slice, and how long it takes including transfers."""
    return {
        name: {
            "ms a slice": 1e3 * run["seconds_per_slice"],
            "largest difference, HU": run["difference"]["largest"],
            "rms difference, HU": run["difference"]["rms"],
        }
        for name, run in found["runs"].items()
    }


def measurements(device: torch.device, quick: bool) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """All tables, one at a time."""
    yield "start of a new process, seconds", start_times(1 if quick else 5)
    runs = 20 if quick else benchmark_gpu.RUNS
    for height, width, channels in benchmark_gpu.SIZES[: 1 if quick else None]:
        for dtype in (torch.float32,) if quick else (torch.float32, torch.bfloat16):
            title = f"operator, {height} x {width}, C = {channels}, {str(dtype).removeprefix('torch.')}"
            yield title, benchmark_gpu.measure_operator(device, height, width, channels, dtype, runs)
            torch.cuda.empty_cache()
    for name, side in (("light", 512),) if quick else (("light", 512), ("full", 512)):
        yield f"{name} network, {side} x {side}", benchmark_gpu.measure_network(device, name, side)
        torch.cuda.empty_cache()


def start_times(runs: int) -> dict[str, dict[str, Any]]:
    """Seconds until the kernel can run, in separate processes: with an empty cache, and with a filled one."""
    seconds: dict[str, list[float]] = {"compiled": [], "from the cache": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            for name in seconds:
                done = subprocess.run(
                    [sys.executable, "-P", "-c", START, str(ROOT)],
                    env={**os.environ, "RESTORE_RWKV_CACHE": cache},
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                seconds[name].append(float(done.stdout.strip().splitlines()[-1]))
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)}
        for name, values in seconds.items()
    }


def targets(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The targets beside the measurements; what was not measured is left out."""
    table: dict[str, dict[str, Any]] = {}

    def aim(name: str, title: str, row: str, column: str, *, at_most: float = 0.0, at_least: float = 0.0) -> None:
        value = results.get(title, {}).get(row, {}).get(column)
        if value is not None:
            reached = value >= at_least if at_least else value <= at_most
            wanted = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
            table[name] = {"wanted": wanted, "measured": value, "reached": "yes" if reached else "no"}

    start = "start of a new process, seconds"
    aim("first start, s", start, "compiled", "median", at_most=3)
    aim("start from the cache, s", start, "from the cache", "median", at_most=0.05)
    for size in ("512 x 512, C = 48", "256 x 256, C = 96"):
        title = f"operator, {size}, float32"
        for order in ("rows", "columns"):
            for way, arrays, most in (("forward", 3, 2), ("backward", 5, 3)):
                unit = f"x copy of {arrays} arrays"
                aim(f"{way}, {size}, {order}, {unit}", title, f"{way}, {order}", unit, at_most=most)
        unit = "x forward, rows"
        aim(f"64 chunks a channel, {size}, {unit}", title, "64 chunks a channel", unit, at_least=10)
    network = "full network, 512 x 512"
    aim("full network in bfloat16, times faster", network, "compiled, bfloat16", "times faster", at_least=5)
    aim("operator's share of it", network, "compiled, bfloat16", "operator's share", at_most=0.15)
    return table


def write(results: dict[str, Any], folder: Path) -> None:
    """Save the results as JSON and as a page."""
    path = folder / f"gpu_{slug(results['environment']['device'])}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    path.with_suffix(".md").write_text(as_markdown(results))
    print(f"Written: {path} and {path.with_suffix('.md')}")


def slug(device: str) -> str:
    """The name of a GPU as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower().replace("nvidia", "")).strip("_")


def as_markdown(results: dict[str, Any]) -> str:
    """All results as a page: hardware and versions, checks, tables."""
    found, checks = results["environment"], results["checks"]
    failed = sum(not check["holds"] for check in checks)
    lines = [f"# The GPU kernel on {found['device']}, {found['date']}", "", "Made by `python scripts/check_gpu.py`."]
    lines += ["Times are medians; low and high hold four fifths of the runs, or all of a few.", ""]
    lines += [f"- {name}: {value}" for name, value in found.items()]
    lines += ["", "## Checks", "", f"{len(checks) - failed} hold, {failed} failed.", ""]
    lines += ["| | holds | found |", "|---|---|---|"]
    lines += [f"| {check['name']} | {'yes' if check['holds'] else '**no**'} | {check['found']} |" for check in checks]
    for title, table in results.items():
        if title not in ("environment", "checks"):
            columns = list(dict.fromkeys(column for row in table.values() for column in row))
            lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
            lines += [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
            lines += [f"| {name} | {' | '.join(_cell(row, c) for c in columns)} |" for name, row in table.items()]
    return "\n".join(lines) + "\n"


def as_text(title: str, table: dict[str, dict[str, Any]]) -> str:
    """A table for the terminal."""
    lines = [f"\n{title}"]
    for name, row in table.items():
        lines.append(f"  {name:40}" + "  ".join(f"{column} {_cell(row, column)}" for column in row))
    return "\n".join(lines)


def _cell(row: dict[str, Any], column: str) -> str:
    value = row.get(column, "")
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _answer_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


if __name__ == "__main__":
    started = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(code)
