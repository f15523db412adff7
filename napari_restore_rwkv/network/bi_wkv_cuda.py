"""The compiled GPU kernel: which passes run, over what, and where their buffers are.

The forward pass has three steps: what every chunk of tokens contributes to the others; what therefore reaches every
chunk; the outputs. The backward pass repeats them for the gradient. `src_kernels/README.md` derives them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .cuda_compiler import CARRY_GROUPS, CARRY_LANES, LANES, LENGTH, SEGMENTS

# Per chunk and channel: exponent, numerator and denominator, from either side.
_STATE = 6

SUFFIX = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat16"}


class Kernels(Protocol):
    """The kernels of bi_wkv_cuda.cu, ready to run."""

    def launch(self, name: str, grid: int, block: tuple[int, int], *arguments: Tensor | int) -> None:
        """Queue a kernel: tensors are passed as pointers, integers as 64-bit words."""


def forward(
    kernels: Kernels, w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool
) -> Tensor:
    """Run the forward passes.

    Parameters
    ----------
    kernels
        Of the device that holds the tensors.
    w, u
        Decay and bonus, already divided by T, shape (C,), float32.
    k, v
        Keys and values, shape (B, T, C), contiguous, float32, float16 or bfloat16, tokens in row-major order.
    height, width, column_major
        The map, T = height * width, and whether its columns are scanned instead of its rows.

    Returns
    -------
    Tensor
        y, shape (B, T, C), in the dtype of v.
    """
    run = _Run(kernels, k, height, width, column_major)
    states = run.states(w, k, v)
    y = torch.empty_like(v)
    run.pass_over("output", w, u, k, v, states, y)
    return y


def backward(
    kernels: Kernels,
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    gy: Tensor,
    height: int,
    width: int,
    column_major: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of w, u (float32), k and v (their dtype) for the gradient gy of y, shape and dtype of k."""
    run = _Run(kernels, k, height, width, column_major)
    states = run.states(w, k, v)
    gradient_states = run.empty(_STATE)
    run.pass_over("summarise_gradient", w, u, k, v, gy, states, gradient_states)
    run.carry(w, gradient_states)
    gk, gv, shares_w, shares_u = torch.empty_like(k), torch.empty_like(v), run.empty(1), run.empty(1)
    run.pass_over("gradients", w, u, k, v, gy, states, gradient_states, gk, gv, shares_w, shares_u)
    # Contributions of the chunks, added in a fixed order: the same result every time.
    gw, gu = (shares.sum(dim=(0, 1, 2), dtype=torch.float64).to(w.dtype) for shares in (shares_w, shares_u))
    return gw, gu, gk, gv


class _Run:
    """One call of the operator: its sizes, and the grids they lead to."""

    def __init__(self, kernels: Kernels, k: Tensor, height: int, width: int, column_major: bool) -> None:
        self.kernels, self.device, self.suffix = kernels, k.device, SUFFIX[k.dtype]
        self.batch, tokens, self.channels = k.shape
        # Rows are the columns of a map one pixel wide.
        self.height, self.width = (height, width) if column_major else (tokens, 1)
        self.chunks = -(-tokens // (SEGMENTS * LENGTH))

    def empty(self, values: int) -> Tensor:
        shape = (self.batch, self.chunks, values, self.channels)
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def states(self, w: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What reaches every chunk from either side."""
        states = self.empty(_STATE)
        self.pass_over("summarise", w, k, v, states)
        self.carry(w, states)
        return states

    def carry(self, w: Tensor, states: Tensor) -> None:
        grid = 2 * self.batch * -(-self.channels // CARRY_LANES)
        block = (CARRY_LANES, CARRY_GROUPS)
        self.kernels.launch("bi_wkv_carry", grid, block, w, states, self.chunks, self.channels)

    def pass_over(self, name: str, *arrays: Tensor) -> None:
        grid = self.batch * self.chunks * -(-self.channels // LANES)
        sizes = (self.batch, self.height, self.width, self.channels)
        self.kernels.launch(f"bi_wkv_{name}_{self.suffix}", grid, (LANES, SEGMENTS), *arrays, *sizes)
