"""Measure the WKV kernel and the light network; first check that both are right.

    python src_kernels/benchmark.py [--threads N] [--json FILE]

Every time is the median of interleaved runs, and every claim a ratio of two times of the same run: to torch.add over
arrays of the same size with the same number of threads, or to the portable PyTorch form. Ratios are of CPU time, which
other programs disturb least. The cost of the operator within a network is measured by leaving it out: the sources are
compiled twice for that, with it and without.
"""

import argparse
import ctypes
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from served import machine

from napari_restore_rwkv.network import bi_wkv_cpu
from napari_restore_rwkv.network.bi_wkv import bi_wkv, re_wkv
from napari_restore_rwkv.network.bi_wkv_portable import bi_wkv_portable, re_wkv_portable
from napari_restore_rwkv.network.bi_wkv_reference import re_wkv_reference
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration.memory import reused_buffers

SIDE, CHANNELS = 256, 96
RUNS = 15
SOURCES = Path(__file__).parent
# Bytes of a vector, and compiler flags, as in CMakeLists.txt.
FLAGS = {
    "AVX-512": (64, "-mavx512f -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512"),
    "AVX2": (32, "-mavx2 -mfma"),
    "baseline": (16, ""),
}
LIGHT: dict[str, Any] = {"channels": 16, "blocks": (1, 1, 2, 2), "refinement": 1}


def check() -> float:
    """Compare outputs and gradients with the equation in float64 and return the largest relative error.

    Both scan orders, both implementations, and one problem that is large enough for several threads.

    Raises
    ------
    SystemExit
        If an error exceeds 1e-5: no time of a wrong kernel is worth printing.
    """
    worst = 0.0
    for height, width, channels in ((1, 1, 3), (7, 9, 17), (13, 5, 16), (20, 35, 33)):
        inputs = _map_inputs(height * width, channels)
        size = (height, width)
        expected = _with_gradients(re_wkv_reference, [x.double() for x in inputs], *size)
        for operator in (re_wkv, re_wkv_portable):
            for got, exact in zip(_with_gradients(operator, inputs, *size), expected, strict=True):
                scale = exact.abs().max() if exact.abs().max() > 1e-9 else torch.ones(())
                worst = max(worst, float((got.double() - exact).abs().max() / scale))
    # The equation itself takes T^2 time, so a large problem is compared with the portable form.
    inputs = _map_inputs(96 * 96, CHANNELS)
    pairs = zip(*(_with_gradients(operator, inputs, 96, 96) for operator in (re_wkv, re_wkv_portable)), strict=True)
    worst = max(worst, *(float((got - other).abs().max() / other.abs().max()) for got, other in pairs))
    if worst > 1e-5:
        raise SystemExit(
            f"The operator is wrong: relative error {worst:.1e} against the equation. Nothing was measured."
        )
    return worst


def measure_operator() -> dict[str, Any]:
    """Time the operator at T = 256 x 256 and 96 channels, against torch.add on arrays of the same size."""
    w, u, k, v = _inputs(SIDE * SIDE, CHANNELS)
    gy, y = torch.randn_like(v), torch.empty_like(v)
    gradients = tuple(torch.empty_like(x) for x in (w, u, k, v))

    def kernel(name: str, column_major: bool, *more: Tensor) -> Callable[[], None]:
        return lambda: bi_wkv_cpu.call(name, k, SIDE, SIDE, column_major, (w, u, k, v, *more))

    times = _medians(
        {
            "torch.add(k, v, out=y)": lambda: torch.add(k, v, out=y),
            "forward, row order": kernel("forward", False, y),
            "forward, column order": kernel("forward", True, y),
            "backward, row order": kernel("backward", False, gy, *gradients),
            "backward, column order": kernel("backward", True, gy, *gradients),
            "bi_wkv(w, u, k, v)": lambda: bi_wkv(w, u, k, v),
            "bi_wkv_portable(w, u, k, v)": lambda: bi_wkv_portable(w, u, k, v),
        }
    )
    return _with_ratios(times, "torch.add(k, v, out=y)")


def measure_network() -> dict[str, Any]:
    """Time the light network at 256x256: in whole blocks, with and without the operator, and layer by layer."""
    image = torch.rand(1, 1, SIDE, SIDE)
    network, portable = (RestoreRWKV(**LIGHT, operator=one).fused() for one in (re_wkv, re_wkv_portable))
    torch.nn.init.normal_(network.output.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    portable.load_state_dict(network.state_dict())
    layers = RestoreRWKV(**LIGHT).fused()
    layers.load_state_dict(network.state_dict())
    for module in layers.modules():
        if getattr(module, "fused", None) is True:
            module.fused = False
    with compiled() as libraries, reused_buffers(), torch.inference_mode():

        def of(library: str) -> Callable[[], Tensor]:
            def run() -> Tensor:
                with in_place_of_the_kernel(libraries[library]):
                    return network(image)

            return run

        ways = {
            "whole blocks": of("with operator"),
            "whole blocks, without operator": of("without operator"),
            "layer by layer": lambda: layers(image),
            "portable operator": lambda: portable(image),
        }
        for name in ("layer by layer", "portable operator"):
            torch.testing.assert_close(ways["whole blocks"](), ways[name](), rtol=0, atol=1e-5)
        if torch.allclose(ways["whole blocks"](), ways["whole blocks, without operator"](), rtol=0, atol=1e-5):
            raise SystemExit("Without the operator the network gives the same result, so nothing was left out.")
        times = _medians(ways)
    table = _with_ratios(times, "whole blocks")
    share = 1 - times["whole blocks, without operator"][1] / times["whole blocks"][1]
    table["the operator's share"] = {"of the forward pass": share}
    return table


@contextmanager
def compiled() -> Iterator[dict[str, ctypes.CDLL]]:
    """The kernel compiled for the instruction set in use, with and without the operator."""
    vector_bytes, flags = FLAGS[bi_wkv_cpu.instruction_set()]
    libraries = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, macro in (("with operator", ""), ("without operator", "-DRESTORE_WITHOUT_OPERATOR")):
            path = Path(folder) / f"{name.replace(' ', '_')}.so"
            command = f"c++ -std=c++17 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast {flags} {macro}"
            command += f" -DBI_WKV_ISA=baseline -DBI_WKV_VECTOR_BYTES={vector_bytes} -shared -fPIC -pthread"
            sources = map(str, SOURCES.glob("*.cpp"))
            subprocess.run([*shlex.split(command), "-o", str(path), *sources], check=True)
            libraries[name] = ctypes.CDLL(str(path))
        yield libraries


@contextmanager
def in_place_of_the_kernel(library: ctypes.CDLL) -> Iterator[None]:
    """Make the package call another library inside this context."""
    usual, bi_wkv_cpu.library = bi_wkv_cpu.library, lambda: library  # type: ignore[assignment]
    try:
        yield
    finally:
        bi_wkv_cpu.library = usual


def measure_scaling() -> dict[str, Any]:
    """Time the light network from 128x128 to 1024x1024; ratios are costs per pixel."""
    network = RestoreRWKV(**LIGHT).fused()
    table: dict[str, Any] = {}
    # As in a restoration.
    with reused_buffers(), torch.inference_mode():
        for side in (128, 256, 512, 1024):
            image = torch.rand(1, 1, side, side)
            [(_, spent)] = _medians(
                {str(side): lambda image=image: network(image)}, runs=max(3, RUNS * 128 // side)
            ).values()
            table[f"{side} x {side}"] = {
                "processor milliseconds": spent * 1e3,
                "microseconds per pixel": spent * 1e6 / side**2,
            }
    costs = [row["microseconds per pixel"] for row in table.values()]
    table["largest / smallest"] = {"ratio": max(costs) / min(costs)}
    return table


def main() -> None:
    """Check, measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    results: dict[str, Any] = {
        **{name: str(value) for name, value in machine().items()},
        "threads": str(options.threads),
        "largest relative error": check(),
        "operator, T = 256 x 256, C = 96, float32": measure_operator(),
        "light network, 256 x 256": measure_network(),
        "light network, cost per pixel": measure_scaling(),
    }
    for title, content in results.items():
        if not isinstance(content, dict):
            print(f"{title}: {content}")
            continue
        print(f"\n{title}")
        for name, row in content.items():
            print(f"  {name:30}" + "  ".join(f"{value:10.3f} {unit}" for unit, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _inputs(tokens: int, channels: int) -> list[Tensor]:
    w, u = torch.randn(channels) / tokens, torch.randn(channels) / tokens
    return [w, u, torch.randn(1, tokens, channels), torch.randn(1, tokens, channels)]


def _map_inputs(tokens: int, channels: int) -> list[Tensor]:
    decay, bonus = torch.randn(2, channels) / tokens, torch.randn(2, channels) / tokens
    return [decay, bonus, torch.randn(1, tokens, channels), torch.randn(1, tokens, channels)]


def _with_gradients(operator: Callable[..., Tensor], inputs: list[Tensor], height: int, width: int) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = operator(*leaves, height, width)
    # Any fixed weights will do for the gradient, the values themselves too.
    return [y.detach(), *torch.autograd.grad(y, leaves, inputs[3].flip(1))]


def _medians(work: dict[str, Callable[[], Any]], runs: int = RUNS) -> dict[str, tuple[float, float]]:
    """Median seconds of each, wall time and CPU time; they take turns, so that other load affects all of them."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(runs + 1):
        for name, run in work.items():
            passed, spent = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first turn warms up
                times[name].append((time.perf_counter() - passed, time.process_time() - spent))
    return {
        name: (statistics.median(one for one, _ in found), statistics.median(one for _, one in found))
        for name, found in times.items()
    }


def _with_ratios(times: dict[str, tuple[float, float]], unit: str) -> dict[str, Any]:
    return {
        name: {"milliseconds": passed * 1e3, "of the processor": spent * 1e3, f"x {unit}": spent / times[unit][1]}
        for name, (passed, spent) in times.items()
    }


if __name__ == "__main__":
    main()
