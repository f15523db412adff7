"""The CUDA kernels against the equation, by their unchanged source on the CPU."""

import functools
import re
from types import SimpleNamespace

import pytest
import torch
from operator_problems import MAPS, SIZES, assert_all_close, assert_close, inputs, outputs

from napari_restore_rwkv.network import bi_wkv_cuda
from napari_restore_rwkv.network.bi_wkv import re_wkv
from napari_restore_rwkv.network.bi_wkv_reference import bi_wkv_reference, re_wkv_reference

from .emulated import ORDERS, SOURCE, EmulatedKernels, WatchedKernels

pytestmark = pytest.mark.slow

BARRIERS = [
    f"{path.name}:{number}"
    for path in sorted(SOURCE.parent.glob("bi_wkv_cuda*"))
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if "__syncthreads();" in line
]


class CudaOperator(torch.autograd.Function):
    """`torch.ops.restore_rwkv.bi_wkv`, its passes run by given kernels."""

    @staticmethod
    def forward(ctx, kernels, w, u, k, v, height, width, column_major):
        ctx.save_for_backward(w, u, k, v)
        ctx.rest = kernels, height, width, column_major
        return bi_wkv_cuda.forward(kernels, w, u, k, v, height, width, column_major)

    @staticmethod
    def backward(ctx, gy):
        kernels, *size = ctx.rest
        return None, *bi_wkv_cuda.backward(kernels, *ctx.saved_tensors, gy.contiguous(), *size), None, None, None


def bi_wkv_on(kernels):
    """The operator of one sequence, in order of memory."""
    return lambda w, u, k, v: CudaOperator.apply(kernels, w, u, k, v, k.shape[1], 1, False)


def re_wkv_on(kernels):
    """The operator of a map, along its rows and then along its columns."""

    def operator(decay, bonus, k, v, height, width):
        v = CudaOperator.apply(kernels, decay[0].contiguous(), bonus[0].contiguous(), k, v, height, width, False)
        return CudaOperator.apply(kernels, decay[1].contiguous(), bonus[1].contiguous(), k, v, height, width, True)

    return operator


@functools.cache
def problem_and_answer(tokens, channels, batch=1, **options):
    """Inputs, and what the equation makes of them in float64: the same for every order of the threads."""
    problem = inputs(tokens, channels, batch, **options)
    return problem, outputs(bi_wkv_reference, torch.float64, *problem)


@functools.cache
def map_and_answer(height, width, channels):
    """Parameters, a map and a gradient; and what explicit transposes make of them in float64."""
    tokens = height * width
    _, _, k, v, gy = inputs(tokens, channels, batch=2)
    leaves = [*(torch.randn(2, channels).double() / tokens for _ in range(2)), k, v]
    return leaves, gy, map_results(re_wkv_reference, torch.float64, leaves, gy, height, width)


def map_results(operator, dtype, leaves, gy, height, width):
    """Output and gradients of an operator on a map."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in leaves]
    y = operator(*leaves, height, width)
    return y, *torch.autograd.grad(y, leaves, gy.to(dtype))


@pytest.fixture(params=list(ORDERS))
def kernels(request, emulator):
    """Kernels whose threads take turns in one of three orders."""
    return EmulatedKernels(emulator, request.param)


@pytest.mark.parametrize(("tokens", "channels", "batch"), [*SIZES, (129, 16, 1), (2100, 3, 1)])
def test_outputs_and_gradients_match_the_equation_at_odd_sizes(kernels, tokens, channels, batch):
    problem, expected = problem_and_answer(tokens, channels, batch)
    floor = 1.0 if tokens == 1 else 0.0
    assert_all_close(outputs(bi_wkv_on(kernels), torch.float32, *problem), expected, 1e-5, floor)


@pytest.mark.parametrize("decay", [50.0, -50.0])
@pytest.mark.parametrize(("tokens", "key_range"), [(1000, 1.0), (1000, 40.0), (200, 80.0), (65, 80.0), (3, 80.0)])
def test_extreme_decays_and_keys_stay_finite_and_right(kernels, decay, tokens, key_range):
    problem, expected = problem_and_answer(tokens, 4, decay=decay, key_range=key_range)
    got = outputs(bi_wkv_on(kernels), torch.float32, *problem)
    assert all(torch.isfinite(x).all() for x in got)
    # Rounding a key of 80 to float32 already changes its weight by 4e-6.
    assert_close("y", got[0], expected[0], 3e-5)
    assert_close("gv", got[4], expected[4], 3e-5)
    if tokens > 3:
        # These sum terms that cancel; among three tokens this far apart nothing but rounding would be left.
        for name, a, b in zip(("gw", "gu", "gk"), got[1:], expected[1:], strict=False):
            assert_close(name, a, b, 2e-3)


@pytest.mark.parametrize(
    ("decay", "bonus"), [(0.01, -200.0), (0.01, 30.0), (0.01, 200.0), (2.0, 0.1), (-2.0, 0.1), (1e5, 0.0), (-1e5, 0.0)]
)
def test_any_decay_and_bonus_per_token_is_right(kernels, decay, bonus):
    _, _, k, v, gy = inputs(200, 3)
    w, u = torch.full((3,), decay).double(), torch.full((3,), bonus).double()
    expected = outputs(bi_wkv_reference, torch.float64, w, u, k, v, gy)
    got = outputs(bi_wkv_on(kernels), torch.float32, w, u, k, v, gy)
    assert all(torch.isfinite(x).all() for x in got)
    assert_close("y", got[0], expected[0], 1e-5)
    assert_close("gv", got[4], expected[4], 1e-5)


@pytest.mark.parametrize(("height", "width", "channels"), [*MAPS, (15, 9, 4), (20, 13, 2), (128, 3, 2), (500, 2, 1)])
def test_rows_then_columns_match_explicit_transposes(kernels, height, width, channels):
    leaves, gy, expected = map_and_answer(height, width, channels)
    got = map_results(re_wkv_on(kernels), torch.float32, leaves, gy, height, width)
    assert_all_close(got, expected, 1e-5)


def test_float32_does_not_drift_over_many_chunks(emulator):
    tokens, channels = 96 * 96, 8
    parameters = [torch.randn(2, channels) / tokens for _ in range(2)]
    *maps, gy = (torch.randn(1, tokens, channels) for _ in range(3))
    got = map_results(re_wkv_on(EmulatedKernels(emulator)), torch.float32, [*parameters, *maps], gy, 96, 96)
    # The CPU kernel in float64 is held against the equation elsewhere; the equation itself would take minutes here.
    expected = map_results(re_wkv, torch.float64, [*parameters, *maps], gy, 96, 96)
    assert_all_close(got, expected, 5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(emulator, dtype):
    w, u, k, v, gy = inputs(300, 5)
    leaves = [w.float(), u.float(), k.to(dtype), v.to(dtype)]
    got = outputs_of(bi_wkv_on(EmulatedKernels(emulator)), leaves, gy.to(dtype))
    expected = outputs_of(bi_wkv_reference, [x.double() for x in leaves], gy.to(dtype).double())
    for name, a, b in zip(("y", "gw", "gu", "gk", "gv"), got, expected, strict=True):
        assert_close(name, a, b, 1e-5 if a.dtype == torch.float32 else torch.finfo(dtype).eps)
    assert [x.dtype for x in got] == [dtype, torch.float32, torch.float32, dtype, dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_16_bit_number_passes_unchanged(emulator, dtype):
    numbers = torch.arange(2**16).to(torch.uint16).view(dtype)
    # Subnormal numbers of bfloat16 are subnormal in float32 too, where the kernel takes them for zero; the sum of
    # the largest ones leaves float32's range.
    if dtype == torch.bfloat16:
        numbers = torch.where((numbers.abs() >= 2.0**-126) & (numbers.abs() < 2.0**100), numbers, 0)
    v = torch.where(numbers.isfinite(), numbers, 0).view(1, 4096, 16)
    # With such a bonus a token gives its own value.
    y = bi_wkv_cuda.forward(
        EmulatedKernels(emulator), torch.zeros(16), torch.full((16,), 1e3), torch.zeros_like(v), v, 4096, 1, False
    )
    assert torch.equal(y, v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_largest_numbers_and_nan_stay_as_they_are(emulator, dtype):
    largest = torch.finfo(dtype).max
    v = torch.tensor([torch.inf, -torch.inf, torch.nan, largest, -largest], dtype=dtype).view(1, 1, 5)
    y = bi_wkv_cuda.forward(
        EmulatedKernels(emulator), torch.zeros(5), torch.zeros(5), torch.zeros_like(v), v, 1, 1, False
    )
    torch.testing.assert_close(y, v, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_16_bits_is_that_of_torch(emulator, dtype):
    # Means of neighbouring numbers of all sizes lie between two 16-bit numbers, many of them halfway.
    numbers = torch.arange(0x0400, 0x7800, 7).to(torch.int16).view(torch.float16).to(dtype)
    v = torch.stack((numbers[:-1], numbers[1:]))[None].contiguous()
    zeros = torch.zeros(v.shape[2])
    y = bi_wkv_cuda.forward(EmulatedKernels(emulator), zeros, zeros, torch.zeros_like(v), v, 2, 1, False)
    mean = v.float().mean(dim=1)
    assert torch.equal(y[:, 0], mean.to(dtype))


def test_three_orders_and_two_runs_give_the_same_bits(emulator):
    problem = [x.float() for x in inputs(300, 17, batch=2)]
    results = [outputs(bi_wkv_on(EmulatedKernels(emulator, order)), torch.float32, *problem) for order in [*ORDERS] * 2]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_unwritten_memory_is_never_read(emulator, monkeypatch):
    problem = inputs(150, 19)
    expected = outputs(bi_wkv_on(EmulatedKernels(emulator)), torch.float32, *problem)
    poisoned = SimpleNamespace(
        **{name: getattr(torch, name) for name in ("float16", "float32", "float64", "bfloat16")},
        empty=lambda *args, **options: torch.full(*args, torch.nan, **options),
        empty_like=lambda x: torch.full_like(x, torch.nan),
    )
    monkeypatch.setattr(bi_wkv_cuda, "torch", poisoned)
    got = outputs(bi_wkv_on(EmulatedKernels(emulator)), torch.float32, *problem)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_memory_is_accessed_within_bounds_and_without_undefined_behaviour(memory_watcher):
    kernels = WatchedKernels(memory_watcher, "random")
    for tokens, channels, decay, dtype in (
        (1, 1, 1.0, torch.float32),
        (37, 17, 50.0, torch.float16),
        (130, 5, -300.0, torch.float32),
        (300, 16, 2.0, torch.bfloat16),
    ):
        *parameters, k, v, gy = (x.float() for x in inputs(tokens, channels, batch=2, decay=decay))
        outputs_of(bi_wkv_on(kernels), [*parameters, k.to(dtype), v.to(dtype)], gy.to(dtype))
    parameters, (k, v, gy) = torch.randn(2, 2, 5), (torch.randn(1, 19 * 9, 5) for _ in range(3))
    outputs_of(lambda *leaves: re_wkv_on(kernels)(*leaves, 19, 9), [parameters[0], parameters[1], k, v], gy)
    code, said = kernels.close()
    assert code == 0, said


def test_an_array_that_is_too_short_is_noticed(memory_watcher):
    kernels = WatchedKernels(memory_watcher)
    w, u, k, v, _ = (x.float() for x in inputs(20, 16))
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        bi_wkv_cuda.forward(kernels, w, u, k, v[:, :19].contiguous(), 20, 1, False)


def test_no_two_threads_touch_shared_memory_without_a_barrier_between(race_watcher):
    kernels = WatchedKernels(race_watcher)
    outputs(bi_wkv_on(kernels), torch.float32, *inputs(300, 5))
    outputs(bi_wkv_on(kernels), torch.float32, *inputs(20, 3, decay=60.0))
    code, said = kernels.close()
    assert code == 0, said


def test_the_kernel_has_barriers_to_remove():
    assert len(BARRIERS) >= 8


@pytest.mark.parametrize("barrier", BARRIERS)
def test_every_barrier_is_needed(emulator, monkeypatch, barrier):
    # Enough chunks that handing them on takes several rounds.
    problem, expected = problem_and_answer(600, 2)
    monkeypatch.setenv("EMULATE_WITHOUT_BARRIER", barrier)

    def wrong(order):
        got = outputs(bi_wkv_on(EmulatedKernels(emulator, order)), torch.float32, *problem)
        return any(not ((a - b).abs().max() < 1e-4 * b.abs().max()) for a, b in zip(got, expected, strict=True))

    assert any(wrong(order) for order in ORDERS)


@pytest.mark.parametrize("barrier", BARRIERS[:2])
def test_a_race_is_reported_with_its_place(race_watcher, monkeypatch, barrier):
    monkeypatch.setenv("EMULATE_WITHOUT_BARRIER", barrier)
    kernels = WatchedKernels(race_watcher)
    outputs(bi_wkv_on(kernels), torch.float32, *inputs(300, 2))
    code, said = kernels.close()
    assert code != 0
    assert re.search(r"data race .*bi_wkv_cuda", said.replace("\n", " "))


def outputs_of(operator, leaves, gy):
    """Output and gradients for leaves of mixed dtypes."""
    leaves = [x.requires_grad_() for x in leaves]
    y = operator(*leaves)
    return y, *torch.autograd.grad(y, leaves, gy)
