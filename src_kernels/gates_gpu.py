"""What must hold for the kernel on a device before its times mean anything; `scripts/check_gpu.py` runs it.

Inputs are new at every run. Memory that the kernel is to write is filled with NaN, so an element that it leaves out, or
reads before writing, shows in the result.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_restore_rwkv.network.bi_wkv_portable import bi_wkv_portable, in_column_order
from napari_restore_rwkv.network.bi_wkv_reference import bi_wkv_reference
from napari_restore_rwkv.network.model import RestoreRWKV

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Batch, height, width, channels: around the sizes of the kernel's segments, chunks and tiles, in either order.
SIZES = (
    (1, 1, 1, 1),
    (3, 1, 2, 5),
    (2, 1, 127, 3),
    (1, 128, 1, 16),
    (1, 3, 43, 33),
    (2, 9, 15, 17),
    (1, 33, 16, 48),
    (1, 20, 29, 49),
)
LARGE = (2, 253, 260, 40)
SMALLEST = SIZES[:6]
WATCHED = ((2, 9, 15, 17), (1, 3, 43, 3))
# Relative to the largest value: the error of rounding a result to this dtype, with some margin for the sums.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
NAMES = ("y", "gw", "gu", "gk", "gv")


@dataclass(frozen=True, slots=True)
class Truth:
    """The reference for the kernel, in float64, and where it is computed."""

    operator: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    device: torch.device


@dataclass(frozen=True, slots=True)
class Gate:
    """One requirement: its name, whether it holds, and what was found."""

    name: str
    holds: bool
    found: str


def parity(
    device: torch.device, sizes: Sequence[tuple[int, int, int, int]] = SIZES, poisoned: bool = True
) -> Iterator[Gate]:
    """Outputs and gradients against the equation in float64 on the CPU, in both orders and all dtypes."""
    truth = Truth(bi_wkv_reference, torch.device("cpu"))
    for dtype, tolerance in TOLERANCE.items():
        for column_major in (False, True):
            worst, size, name = max(
                (error, size, name)
                for size in sizes
                for name, error in _errors(device, dtype, size, column_major, truth, poisoned).items()
            )
            title = f"equation, {_short(dtype)}, {_order(column_major)}"
            yield Gate(title, worst <= tolerance, f"{worst:.1e} in {name} at {size} (at most {tolerance:.0e})")


def large_parity(device: torch.device, size: tuple[int, int, int, int] = LARGE) -> Iterator[Gate]:
    """A map of many chunks against the portable form in float64, as the equation takes T^2 time."""
    for column_major in (False, True):
        errors = _errors(device, torch.float32, size, column_major, Truth(bi_wkv_portable, device))
        name, worst = max(errors.items(), key=lambda item: item[1])
        found = f"{worst:.1e} in {name} at {size} (at most 1e-05)"
        yield Gate(f"large map, {_order(column_major)}", worst <= 1e-5, found)


def extremes(device: torch.device) -> Iterator[Gate]:
    """Decays of up to 50 over the sequence with either sign, keys up to 80 apart: finite, and correct."""
    worst, finite = 0.0, True
    for decay, keys in ((50.0, 1.0), (-50.0, 1.0), (50.0, 40.0), (-50.0, 40.0), (1.0, 80.0)):
        w, u, k, v, gy = problem(device, torch.float32, (1, 1, 500, 7))
        w, k = torch.full_like(w, decay / 500), (2 * torch.rand_like(k) - 1) * keys
        got = results(compiled, w, u, k, v, gy, 1, 500, False)
        y = bi_wkv_reference(*(x.double() for x in (w, u, k, v)))
        finite &= all(bool(x.isfinite().all()) for x in got)
        worst = max(worst, float((got[0] - y).abs().max() / y.abs().max()))
    found = f"{worst:.1e} in y (at most 3e-05), {'all' if finite else 'not all'} finite"
    # Rounding a key of 80 to float32 already changes its weight by 4e-6.
    yield Gate("extreme decays and keys", finite and worst <= 3e-5, found)


def repeatable(device: torch.device, size: tuple[int, int, int, int] = LARGE) -> Iterator[Gate]:
    """The same inputs give the same bits in every run."""
    for dtype in TOLERANCE:
        _, height, width, _ = size
        inputs = problem(device, dtype, size)
        first, *others = (results(compiled, *inputs, height, width, True) for _ in range(4))
        same = all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))
        yield Gate(f"bit-identical, {_short(dtype)}", same, "four runs agree" if same else "two runs differ")


def graphs(device: torch.device) -> Iterator[Gate]:
    """Forward and backward, captured as a CUDA graph and replayed on other inputs, give the bits of a direct call."""
    batch, height, width, channels = 2, 37, 50, 19
    inputs, others = (problem(device, torch.float32, (batch, height, width, channels)) for _ in range(2))
    direct = [_direct(*others, height, width) for _ in range(2)][-1]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = _direct(*inputs, height, width)
    for x, other in zip(inputs, others, strict=True):
        x.copy_(other)
    graph.replay()
    torch.cuda.synchronize()
    same = all(torch.equal(a, b) for a, b in zip(direct, replayed, strict=True))
    yield Gate("CUDA graph", same, "a replay agrees with a direct call" if same else "a replay differs")


def streams_and_threads(device: torch.device) -> Iterator[Gate]:
    """On a side stream the kernel waits for what that stream is still computing; a new thread can launch it."""
    height, width = 60, 70
    inputs = problem(device, torch.float32, (1, height, width, 24))
    expected = _direct(*inputs, height, width)
    same = True
    for _ in range(2):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            late = [torch.full_like(x, float("nan")) for x in inputs]
            torch.cuda._sleep(50_000_000)
            for x, source in zip(late, inputs, strict=True):
                x.copy_(source)
            got = _direct(*late, height, width)
        stream.synchronize()
        same &= all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    yield Gate("side stream", same, "agrees with the main stream" if same else "did not wait for its stream")

    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(_direct(*inputs, height, width))
        # Whatever makes a thread fail is the finding of the check.
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    torch.cuda.synchronize()
    [answer] = answers
    same = isinstance(answer, list) and all(torch.equal(a, b) for a, b in zip(expected, answer, strict=True))
    yield Gate("new thread", same, "agrees with the main thread" if same else f"gave {answer}")


def autocast(device: torch.device) -> Iterator[Gate]:
    """A small network under autocast, forward and backward, compared with float32."""
    torch.manual_seed(0)
    network = RestoreRWKV(channels=16, blocks=(1, 1, 1, 1), refinement=1).to(device)
    torch.nn.init.normal_(network.output.weight, std=0.01)
    image = torch.rand(1, 1, 72, 88, device=device)
    exact = (network(image) - image).detach()
    with torch.autocast(device.type, torch.bfloat16):
        rounded = network(image) - image
    rounded.float().square().sum().backward()
    error = float((rounded.detach() - exact).abs().max() / exact.abs().max())
    finite = all(x.grad is None or bool(x.grad.isfinite().all()) for x in network.parameters())
    found = f"{error:.1e} from float32 (at most 1e-01), {'all' if finite else 'not all'} gradients finite"
    yield Gate("autocast", error <= 0.1 and finite, found)


def problem(device: torch.device, dtype: torch.dtype, size: tuple[int, int, int, int]) -> list[Tensor]:
    """New random w and u (C,) in float32, and k, v and a gradient of y (B, T, C) in `dtype`."""
    batch, height, width, channels = size
    tokens = height * width
    parameters = [torch.randn(channels) / tokens for _ in range(2)]
    maps = [torch.randn(batch, tokens, channels).to(dtype) for _ in range(3)]
    return [x.to(device) for x in (*parameters, *maps)]


def compiled(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool) -> Tensor:
    """The operator as the network calls it."""
    return torch.ops.restore_rwkv.bi_wkv(w, u, k, v, height, width, column_major)


def results(operator: Callable[..., Tensor], *problem_and_map: Any, poisoned: bool = True) -> list[Tensor]:
    """Output y, then the gradients of w, u, k, v."""
    w, u, k, v, gy, *rest = problem_and_map
    leaves = [x.clone().requires_grad_() for x in (w, u, k, v)]
    with poisoned_memory(k.device) if poisoned else nullcontext():
        y = operator(*leaves, *rest)
        return [y.detach(), *torch.autograd.grad(y, leaves, gy)]


@contextmanager
def poisoned_memory(device: torch.device) -> Iterator[None]:
    """Let torch.empty return NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        if not torch.empty(1000, device=device).isnan().all():
            raise SystemExit("PyTorch does not fill new memory with NaN; the checks would prove less than they claim.")
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _errors(
    device: torch.device,
    dtype: torch.dtype,
    size: tuple[int, int, int, int],
    column_major: bool,
    truth: Truth,
    poisoned: bool = True,
) -> dict[str, float]:
    """Largest error of each result relative to its largest value; NaN counts as infinite."""
    _, height, width, _ = size
    inputs = problem(device, dtype, size)

    def exact(*inputs: Tensor) -> Tensor:
        return in_column_order(truth.operator, *inputs, height, width) if column_major else truth.operator(*inputs)

    expected = results(exact, *(x.to(truth.device).double() for x in inputs), poisoned=False)
    got = results(compiled, *inputs, height, width, column_major, poisoned=poisoned)
    # Without three tokens some gradients are exactly zero, so the error is taken against 1.
    floor = 1.0 if height * width < 3 else 0.0
    errors = {}
    for name, a, b in zip(NAMES, got, expected, strict=True):
        error = float((a.to(b) - b).abs().max() / b.abs().max().clamp_min(floor))
        errors[name] = error if error == error else float("inf")
    return errors


def _direct(w: Tensor, u: Tensor, k: Tensor, v: Tensor, gy: Tensor, height: int, width: int) -> list[Tensor]:
    """Output and gradients by the two operators themselves, without autograd."""
    y = compiled(w, u, k, v, height, width, True)
    return [y, *torch.ops.restore_rwkv.bi_wkv_backward(w, u, k, v, gy, height, width, True)]


def _order(column_major: bool) -> str:
    return "columns" if column_major else "rows"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
