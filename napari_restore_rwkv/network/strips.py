"""A block of the network in strips of rows, for slices whose maps would not fit into memory as a whole.

Everything in a block except the attention works pixel by pixel, or looks two pixels around (the 5x5 Omni-Shift). A
strip is given those two extra rows on either side, and loses them afterwards; at the border of the image the
convolution's own zero padding applies, as always. So nothing is approximate. Of the maps of (B, Y, X, C) values five
exist at a time: the block's input, keys, values, and the attention along rows and along columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from . import fused_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from .blocks import Block

# Values of a strip's widest layer, the hidden one of the channel mix: 16 MiB in float32.
HIDDEN_VALUES_OF_A_STRIP = 1 << 22
_HALO = 2


def block_in_strips(block: Block, x: Tensor) -> Tensor:
    """Do what ``block(x)`` does, (B, Y, X, C) to the same shape, with less memory and without gradients.

    Where a matrix product does not depend on its number of rows (as measured on the CPU), the result is the same to
    the last bit.
    """
    # The fused kernel needs even less memory, and the result has to be the same either way.
    if block.fused and (result := fused_cpu.block(block, x)) is not None:
        return result
    att, ffn = block.att, block.ffn
    k, v = torch.empty_like(x), torch.empty_like(x)
    for rows, shifted in _shifted_strips(block.ln1, att.omni_shift, x):
        k[:, rows] = att.key(shifted)
        v[:, rows] = att.value(shifted)
    attended = att.attend(k, v)
    del v
    for rows, shifted in _shifted_strips(block.ln1, att.omni_shift, x):
        attended[:, rows] = torch.addcmul(x[:, rows], block.gamma1, att.gated(shifted, attended[:, rows]))
    # The keys are no longer needed: their map takes the result.
    for rows, shifted in _shifted_strips(block.ln2, ffn.omni_shift, attended):
        k[:, rows] = torch.addcmul(attended[:, rows], block.gamma2, ffn.mix(shifted))
    return k


def _shifted_strips(norm: nn.Module, shift: nn.Module, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield the rows of each strip of a map (B, Y, X, C), and that strip normalised and shifted."""
    height = x.shape[1]
    step = max(1, HIDDEN_VALUES_OF_A_STRIP // (x.shape[0] * x.shape[2] * 4 * x.shape[3]))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        above, below = max(top - _HALO, 0), min(bottom + _HALO, height)
        strip = norm(x[:, above:below]).permute(0, 3, 1, 2)  # B C Y X
        yield slice(top, bottom), shift(strip).permute(0, 2, 3, 1)[:, top - above : bottom - above]
