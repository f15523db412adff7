"""Every implementation of the operator, and every gradient, against the equation in float64."""

import pytest
import torch
from operator_problems import MAPS, SIZES, assert_all_close, assert_close, inputs, outputs

from napari_restore_rwkv.network import bi_wkv_cpu
from napari_restore_rwkv.network.bi_wkv import bi_wkv, kernel_in_use, re_wkv
from napari_restore_rwkv.network.bi_wkv_portable import bi_wkv_portable, re_wkv_portable
from napari_restore_rwkv.network.bi_wkv_reference import bi_wkv_reference, re_wkv_reference

IMPLEMENTATIONS = [bi_wkv, bi_wkv_portable]


def test_the_compiled_kernel_is_the_one_under_test():
    assert bi_wkv_cpu.library() is not None
    assert kernel_in_use("cpu").name.startswith("compiled CPU kernel")
    assert kernel_in_use("cpu").why == ""


@pytest.mark.slow
def test_the_reference_is_the_equation_written_as_loops():
    w, u, k, v, _ = inputs(7, 2)
    expected = torch.empty_like(v)
    for t in range(7):
        numerator = denominator = 0
        for i in range(7):
            exponent = u + k[0, t] if i == t else k[0, i] - (abs(t - i) - 1) * w
            numerator = numerator + torch.exp(exponent) * v[0, i]
            denominator = denominator + torch.exp(exponent)
        expected[0, t] = numerator / denominator
    torch.testing.assert_close(bi_wkv_reference(w, u, k, v), expected)


@pytest.mark.parametrize("operator", IMPLEMENTATIONS)
@pytest.mark.parametrize(("tokens", "channels", "batch"), SIZES)
def test_outputs_and_gradients_match_the_equation_at_odd_sizes(operator, tokens, channels, batch):
    problem = inputs(tokens, channels, batch)
    expected = outputs(bi_wkv_reference, torch.float64, *problem)
    # For one token every gradient but that of v is exactly zero, so the error is taken against 1.
    floor = 1.0 if tokens == 1 else 0.0
    assert_all_close(outputs(operator, torch.float64, *problem), expected, 1e-12, floor)
    assert_all_close(outputs(operator, torch.float32, *problem), expected, 1e-5, floor)


@pytest.mark.parametrize("operator", IMPLEMENTATIONS)
@pytest.mark.parametrize("decay", [50.0, -50.0])
@pytest.mark.parametrize(("tokens", "key_range"), [(1000, 1.0), (1000, 40.0), (200, 80.0), (65, 80.0), (3, 80.0)])
def test_extreme_decays_and_keys_stay_finite_and_right(operator, decay, tokens, key_range):
    problem = inputs(tokens, 4, decay=decay, key_range=key_range)
    expected = outputs(bi_wkv_reference, torch.float64, *problem)
    got = outputs(operator, torch.float32, *problem)
    assert all(torch.isfinite(x).all() for x in got)
    # Rounding a key of 80 to float32 already changes its weight by 4e-6.
    assert_close("y", got[0], expected[0], 3e-5)
    assert_close("gv", got[4], expected[4], 3e-5)
    if tokens > 3:
        # These sum terms that cancel; among three tokens this far apart nothing but rounding would be left.
        for name, a, b in zip(("gw", "gu", "gk"), got[1:], expected[1:], strict=False):
            assert_close(name, a, b, 2e-3)


@pytest.mark.parametrize("operator", IMPLEMENTATIONS)
@pytest.mark.parametrize(("decay", "bonus"), [(0.01, -200.0), (0.01, 30.0), (0.01, 200.0), (2.0, 0.1), (-2.0, 0.1)])
def test_any_decay_and_bonus_per_token_is_right(operator, decay, bonus):
    _, _, k, v, gy = inputs(200, 3)
    w, u = torch.full((3,), decay).double(), torch.full((3,), bonus).double()
    expected = outputs(bi_wkv_reference, torch.float64, w, u, k, v, gy)
    got = outputs(operator, torch.float32, w, u, k, v, gy)
    assert all(torch.isfinite(x).all() for x in got)
    assert_close("y", got[0], expected[0], 1e-5)
    assert_close("gv", got[4], expected[4], 1e-5)


@pytest.mark.parametrize("operator", [re_wkv, re_wkv_portable])
@pytest.mark.parametrize(("height", "width", "channels"), MAPS)
def test_rows_then_columns_match_explicit_transposes(operator, height, width, channels):
    tokens = height * width
    decay, bonus = torch.randn(2, channels).double() / tokens, torch.randn(2, channels).double() / tokens
    _, _, k, v, gy = inputs(tokens, channels, batch=2)
    leaves = [x.requires_grad_() for x in (decay, bonus, k, v)]
    expected = re_wkv_reference(*leaves, height, width)
    got = operator(*leaves, height, width)
    torch.testing.assert_close(got, expected)
    for a, b in zip(torch.autograd.grad(got, leaves, gy), torch.autograd.grad(expected, leaves, gy), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
def test_every_instruction_set_of_this_processor_gives_the_same(monkeypatch, instructions):
    monkeypatch.setenv("BI_WKV_INSTRUCTION_SET", instructions)
    if bi_wkv_cpu.instruction_set() != instructions:
        pytest.skip(f"this processor has no {instructions}")
    problem = inputs(200, 33)
    expected = outputs(bi_wkv_reference, torch.float64, *problem)
    assert_all_close(outputs(bi_wkv, torch.float32, *problem), expected, 1e-5)
    assert_all_close(outputs(bi_wkv, torch.float64, *problem), expected, 1e-12)


def test_a_token_far_away_changes_every_output():
    w, u, k, v, _ = (x.float() for x in inputs(4096, 2))
    changed = v.clone()
    changed[:, 4000:] += 1
    difference = bi_wkv(w, u, k, changed) - bi_wkv(w, u, k, v)
    assert (difference[:, :2048] > 1e-3).all()


def test_float32_does_not_drift_over_many_chunks():
    tokens, channels = 96 * 96, 32
    decay, bonus = torch.randn(2, channels) / tokens, torch.randn(2, channels) / tokens
    k, v, gy = (torch.randn(1, tokens, channels) for _ in range(3))

    def results(dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (decay, bonus, k, v)]
        y = re_wkv(*leaves, 96, 96)
        return y, *torch.autograd.grad(y, leaves, gy.to(dtype))

    # The same kernel in float64 was held against the equation above; the equation itself would take minutes here.
    assert_all_close(results(torch.float32), results(torch.float64), 5e-6)


def test_constant_values_stay_constant():
    w, u, k, _, _ = (x.float() for x in inputs(300, 5))
    torch.testing.assert_close(bi_wkv(w, u, k, torch.full_like(k, 3.5)), torch.full_like(k, 3.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype):
    w, u, k, v, _ = inputs(500, 8)
    k, v = k.to(dtype), v.to(dtype)
    got = bi_wkv(w.float(), u.float(), k, v)
    assert got.dtype == dtype
    exact = bi_wkv_reference(w, u, k.double(), v.double())
    torch.testing.assert_close(got, exact.to(dtype), rtol=0, atol=2 * torch.finfo(dtype).eps * exact.abs().max().item())


def test_the_number_of_threads_does_not_change_the_result():
    # Threads are used from 65,536 elements each.
    problem = [x.float() for x in inputs(7000, 48)]
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(outputs(bi_wkv, torch.float32, *problem))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_unwritten_memory_is_never_read(monkeypatch):
    w, u, k, v, gy = inputs(70, 19)
    expected = outputs(bi_wkv, torch.float64, w, u, k, v, gy)
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda x, **options: empty_like(x, **options).fill_(torch.nan))
    for a, b in zip(outputs(bi_wkv, torch.float64, w, u, k, v, gy), expected, strict=True):
        assert torch.equal(a, b)


def test_inputs_that_are_not_contiguous_give_the_same():
    w, u, k, v, _ = inputs(30, 8)
    strided = torch.stack((k, k + 1), dim=-1)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(bi_wkv(w, u, strided, v), bi_wkv(w, u, k, v))


def test_gradcheck_passes():
    w, u, k, v, _ = inputs(70, 3)
    leaves = [x.requires_grad_() for x in (w * 70, u * 70, k, v)]
    assert torch.autograd.gradcheck(lambda w, u, k, v: bi_wkv(w / 70, u / 70, k, v), leaves)


@pytest.mark.slow
@pytest.mark.parametrize("column_major", [False, True])
def test_opcheck_passes(column_major):
    w, u, k, v, _ = (x.float().requires_grad_() for x in inputs(12, 5))
    torch.library.opcheck(torch.ops.restore_rwkv.bi_wkv.default, (w, u, k, v, 3, 4, column_major))
    arguments = (*(x.detach() for x in (w, u, k, v)), torch.randn_like(v), 3, 4, column_major)
    # The backward operator has no gradient of its own, so there is no autograd to check.
    torch.library.opcheck(
        torch.ops.restore_rwkv.bi_wkv_backward.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_inputs_that_do_not_match_are_refused_with_a_message():
    w, u, k, v, _ = inputs(12, 5)
    for message, arguments in {
        "share one shape": (w, u, k, v[:, :5]),
        "one value for each of 5 channels": (w[:3], u, k, v),
        "one floating-point dtype": (w, u, k, v.float()),
        "must not be empty": (w, u, k[:, :0], v[:, :0]),
    }.items():
        with pytest.raises(ValueError, match=message):
            bi_wkv(*arguments)
    with pytest.raises(ValueError, match=r"height \* width must be the number of tokens 12"):
        re_wkv(torch.stack((w, w)), torch.stack((u, u)), k, v, 3, 5)
    with pytest.raises(ValueError, match="one row for each scan order"):
        re_wkv(w, u, k, v, 3, 4)


@pytest.mark.parametrize("column_major", [False, True])
def test_without_the_compiled_kernel_the_portable_form_takes_over_and_says_why(monkeypatch, column_major):
    *problem, gy = (x.float() for x in inputs(6 * 50, 5))

    def operator(w, u, k, v):
        return torch.ops.restore_rwkv.bi_wkv(w, u, k, v, 6, 50, column_major)

    expected = outputs(operator, torch.float32, *problem, gy)
    monkeypatch.setattr(bi_wkv_cpu, "library", lambda: None)
    assert kernel_in_use("cpu").name == "portable PyTorch"
    assert "install a C++17 compiler and reinstall the package" in kernel_in_use("cpu").why
    assert_all_close(outputs(operator, torch.float32, *problem, gy), [x.double() for x in expected], 1e-5)
