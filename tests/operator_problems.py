"""Problems for the operator, and how its results are held against the equation."""

import torch

SIZES = [(1, 1, 1), (5, 3, 2), (63, 16, 1), (64, 17, 2), (65, 5, 1), (100, 33, 1), (1000, 5, 1)]
MAPS = [(1, 9, 2), (9, 1, 2), (7, 5, 17), (16, 40, 16), (33, 9, 3)]


def inputs(tokens, channels, batch=1, decay=None, key_range=None):
    """w, u, k, v and a gradient of y in float64; `decay` is |w| * T with its sign, keys lie within `key_range` of 0."""
    w = torch.randn(channels).double() if decay is None else torch.full((channels,), decay).double()
    u = torch.randn(channels).double()
    shape = (batch, tokens, channels)
    k = torch.randn(shape).double() if key_range is None else (2 * torch.rand(shape).double() - 1) * key_range
    return w / tokens, u / tokens, k, torch.randn(shape).double(), torch.randn(shape).double()


def outputs(operator, dtype, w, u, k, v, gy):
    """Output y, then the gradients of w, u, k, v."""
    leaves = [x.to(dtype).requires_grad_() for x in (w, u, k, v)]
    y = operator(*leaves)
    return y, *torch.autograd.grad(y, leaves, gy.to(y.dtype))


def assert_close(name, got, expected, tolerance, floor=0.0):
    error = (got.double() - expected).abs().max() / expected.abs().max().clamp_min(floor)
    assert error < tolerance, f"{name}: relative error {error:.1e}"


def assert_all_close(got, expected, tolerance, floor=0.0):
    for name, a, b in zip(("y", "gw", "gu", "gk", "gv"), got, expected, strict=True):
        assert_close(name, a, b, tolerance, floor)
