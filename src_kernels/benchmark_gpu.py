"""Measure the GPU kernel and the networks; `scripts/check_gpu.py` does so after its checks.

Times are those of the GPU alone, measured by its own clock: each run is a captured graph where possible, and follows a
write that fills the caches, so that nothing is cached. Runs of one table take turns. A ratio is of two medians of one
table.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_restore_rwkv.network import bi_wkv_cuda, cuda_kernels
from napari_restore_rwkv.network.bi_wkv import re_wkv
from napari_restore_rwkv.network.bi_wkv_portable import bi_wkv_portable, re_wkv_portable
from napari_restore_rwkv.network.cuda_compiler import compile_cubin
from napari_restore_rwkv.network.model import RestoreRWKV

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

SIZES = ((512, 512, 48), (256, 256, 96), (512, 512, 16))
RUNS = 60
NETWORK_RUNS = 15
UNIT = ", same bytes"
BASELINE = Path(__file__).parent / "benchmark_64_chunks.cu"
# More than the cache of any GPU so far.
FLUSH_BYTES = 256 << 20

Row = dict[str, Any]
Table = dict[str, Row]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one run: the median, and the range that holds four fifths of the runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, milliseconds: list[float]) -> Timing:
        """Summarise single runs."""
        ordered = sorted(milliseconds)
        tenth = len(ordered) // 10
        return cls(statistics.median(ordered), ordered[tenth], ordered[-1 - tenth], len(ordered))


def measure_operator(
    device: torch.device, height: int, width: int, channels: int, dtype: torch.dtype, runs: int = RUNS
) -> Table:
    """Time the operator on one map, batch 1, against copies of what it must move.

    Three arrays must be moved forward (k, v, y), five backward (k, v, gy, gk, gv). "copy of 3 arrays" copies three
    whole ones, which moves twice their bytes; "copy of 3 arrays, same bytes" reads and writes as much as must be moved
    in total.
    """
    tokens = height * width
    kernels = cuda_kernels.kernels_for(device, dtype)
    w, u = (torch.randn(channels, device=device) / tokens for _ in range(2))
    k, v, gy = (torch.randn(1, tokens, channels, device=device, dtype=dtype) for _ in range(3))

    def copy_of(elements: int) -> Callable[[], Tensor]:
        x, y = torch.randn(elements, device=device).to(dtype), torch.empty(elements, device=device, dtype=dtype)
        return lambda: y.copy_(x)

    captured = partial(Captured, pool=torch.cuda.graph_pool_handle())
    # A copy reads and writes each byte.
    work: dict[str, Callable[[], Any]] = {
        f"copy of {arrays} arrays" + suffix: captured(copy_of(arrays * k.numel() // share))
        for suffix, share in ((UNIT, 2), ("", 1))
        for arrays in (3, 5)
    }
    for name, column_major in (("rows", False), ("columns", True)):
        rest = (height, width, column_major)
        work[f"forward, {name}"] = captured(lambda rest=rest: bi_wkv_cuda.forward(kernels, w, u, k, v, *rest))
        work[f"backward, {name}"] = captured(lambda rest=rest: bi_wkv_cuda.backward(kernels, w, u, k, v, gy, *rest))
    operator = torch.ops.restore_rwkv.bi_wkv
    work["forward, rows, launched from Python"] = lambda: operator(w, u, k, v, height, width, False)
    if dtype == torch.float32:
        work["64 chunks a channel"] = captured(_baseline(w, u, k, v))
        work["portable form, rows"] = lambda: bi_wkv_portable(w, u, k, v)
    timings = measured(work, runs)
    return {name: _row(name, timing, timings, k.numel() * k.element_size()) for name, timing in timings.items()}


def measure_network(device: torch.device, name: str, side: int, runs: int = NETWORK_RUNS) -> Table:
    """Time one slice of side x side through "full" or "light": portable and compiled, float32 and bfloat16.

    The networks share random weights. Errors are against the portable operator in float32, over its largest value.
    """
    image = torch.rand(1, 1, side, side, device=device)
    networks = {
        "portable, float32": _network(device, name, re_wkv_portable),
        "compiled, float32": _network(device, name, re_wkv),
        "compiled, bfloat16": _network(device, name, re_wkv).bfloat16(),
        "without operator, float32": _network(device, name, _leave_out),
        "without operator, bfloat16": _network(device, name, _leave_out).bfloat16(),
    }
    captured = partial(Captured, pool=torch.cuda.graph_pool_handle())
    table: Table = {}
    with torch.inference_mode():
        exact = networks["portable, float32"](image) - image
        work: dict[str, Callable[[], Any]] = {}
        for title, network in networks.items():
            run = lambda network=network: network(image)  # noqa: E731 - one of several that are captured alike
            work[title] = run if title.startswith("portable") else captured(run)
            if title.startswith("compiled"):
                work[f"{title}, launched from Python"] = run
                error = (network(image) - image - exact).abs().max() / exact.abs().max()
                table[title] = {"relative error": float(error)}
        timings = measured(work, runs)
    slowest = timings["portable, float32"].median
    for title, timing in timings.items():
        row = table.setdefault(title, {})
        row |= {"ms": timing.median, "low": timing.low, "high": timing.high, "times faster": slowest / timing.median}
        if title in ("compiled, float32", "compiled, bfloat16"):
            without = timings[title.replace("compiled", "without operator")].median
            row["operator's share"] = 1 - without / timing.median
    return table


class Captured:
    """The work of a function as a graph, which repeats it without Python; its result is dropped.

    Graphs of one pool share memory, since they never run at the same time.
    """

    def __init__(self, run: Callable[[], Any], pool: Any) -> None:
        # The graph reads and writes the tensors that the function holds.
        self.run, self.graph = run, torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Anything compiled, loaded or chosen at first use must be done before.
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self.graph, pool=pool):
            run()

    def __call__(self) -> None:
        """Queue the graph."""
        self.graph.replay()


def measured(work: dict[str, Callable[[], Any]], runs: int) -> dict[str, Timing]:
    """Time each by the GPU's clock, in turns; the first two turns warm up."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    milliseconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(runs + 2):
        for name, run in work.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush.zero_()
            start.record()
            run()
            end.record()
            end.synchronize()
            if turn > 1:
                milliseconds[name].append(start.elapsed_time(end))
    return {name: Timing.of(values) for name, values in milliseconds.items()}


def _row(name: str, timing: Timing, timings: dict[str, Timing], array_bytes: int) -> Row:
    row: Row = {"ms": timing.median, "low": timing.low, "high": timing.high}
    arrays = 5 if name.startswith(("backward", "copy of 5")) else 3
    for unit in (f"copy of {arrays} arrays{UNIT}", f"copy of {arrays} arrays"):
        row[f"x {unit}"] = timing.median / timings[unit].median
    row["GB/s of what must move"] = arrays * array_bytes / timing.median / 1e6
    if name == "64 chunks a channel":
        row["x forward, rows"] = timing.median / timings["forward, rows"].median
    return row


def _baseline(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    """The straightforward kernel, once it is verified to agree."""
    kernels = cuda_kernels.LoadedKernels(k.device.index)
    kernels.load(compile_cubin(cuda_kernels.architecture(k.device), BASELINE.read_text(encoding="utf-8"))[0])
    _, tokens, channels = k.shape

    def run() -> Tensor:
        y = torch.empty_like(v)
        kernels.launch("bi_wkv_64_chunks", channels, (64, 1), w, u, k, v, y, tokens, channels)
        return y

    expected = bi_wkv_portable(w, u, k, v)
    if (run() - expected).abs().max() > 1e-3 * expected.abs().max():
        raise SystemExit("The baseline kernel is wrong; nothing was measured.")
    return run


def _leave_out(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    return v


def _network(device: torch.device, name: str, operator: Callable[..., Tensor]) -> RestoreRWKV:
    sizes: dict[str, Any] = {
        "full": {"channels": 48, "blocks": (4, 6, 6, 8), "refinement": 4},
        "light": {"channels": 16, "blocks": (1, 1, 2, 2), "refinement": 1},
    }[name]
    torch.manual_seed(0)
    network = RestoreRWKV(**sizes, operator=operator)
    # A new network is the identity.
    torch.nn.init.normal_(network.output.weight, std=0.01)
    return network.fused().to(device)
