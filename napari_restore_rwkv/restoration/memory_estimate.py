"""How much memory a slice takes in the network, and how many slices fit at once.

The network is widest in its last levels: 2C channels for each pixel of the padded slice. With M the bytes of one such
map, these are alive at its two peaks:

    attention     the block's input, the same normalised and shifted, k, v, the result along rows      6 M
                  and what the operator itself takes: at least the result along columns                1 M
    channel mix   the block's input before and after attention, normalised and shifted                 4 M
                  and the hidden layer, four times as wide, before and after it is squared             8 M

On a CPU, a block in one call of the fused kernel takes its input and three maps, 4 M, and the sums that the scans
carry, in strips or not. In strips of the plain modules the first peak is the block's input, k, v and the result along
rows, 4 M; the second needs no more. In addition, a map of the previous level is still held, M / 4, and a few images of
one channel. A test measures all this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..network.bi_wkv import kernel_in_use
from ..network.fused_cpu import bytes_of_block

if TYPE_CHECKING:
    import torch

    from ..network.model import RestoreRWKV

_FLOAT32 = 4
# Maps of 2C channels, in float32, that the portable operator holds at its peak. Measured; the tests are no more
# precise.
_PORTABLE_MAPS = 16.25
# If the operator only works in float32, it converts keys and values, and its result back.
_CONVERTED_MAPS = 3
_IMAGES = 8
# The image, and its padded copy.
_FUSED_IMAGES = 2
# Batches gain nothing beyond this many pixels, eight slices of 512 x 512, and the slice on screen would wait longer.
_MOST_PIXELS = 1 << 21
# Leaves room for what the estimate cannot know: other programs, a viewer's textures, fragmentation.
_SHARE_OF_FREE = 0.8


def bytes_per_slice(network: RestoreRWKV, height: int, width: int, *, in_strips: bool = False) -> int:
    """Estimate the peak memory of one slice in bytes, besides the weights.

    Parameters
    ----------
    network
        On the device, and in the precision, in which it will run.
    height, width
        Of the slice in pixels, before padding.
    in_strips
        Whether the network is run in strips of rows; the strips themselves, some 100 MiB, are not counted.
    """
    weight = network.output.weight
    rows, columns = network.padded_sides(height, width)
    pixels = rows * columns
    channels = 2 * network.patch_embed.out_channels
    size = weight.element_size()
    fused = bytes_of_block(network, rows, columns)
    if fused is not None:
        return int(fused + pixels * (channels * size / 4 + _FUSED_IMAGES * _FLOAT32))
    attention = (4 if in_strips else 6) * size + _operator_bytes(weight.device, size)
    # A CPU processes a few rows of the hidden layer at a time.
    mix = 0 if in_strips or weight.device.type == "cpu" else 12 * size
    return int(pixels * (channels * (max(attention, mix) + size / 4) + _IMAGES * _FLOAT32))


def slices_at_once(free: int, per_slice: int, pixels: int, most: int | None) -> int:
    """Choose the size of a batch, at least 1.

    Parameters
    ----------
    free, per_slice
        Bytes available, and bytes that one slice takes.
    pixels
        Of one slice.
    most
        Requested upper limit; None takes as many slices as a batch benefits from.
    """
    wanted = most if most is not None else _MOST_PIXELS // pixels
    return max(1, min(wanted, int(_SHARE_OF_FREE * free) // max(1, per_slice)))


def _operator_bytes(device: torch.device, size: int) -> float:
    """Bytes per value of a map that the operator takes besides its inputs and the first result."""
    converts = size != _FLOAT32
    if not kernel_in_use(device).compiled:
        return _PORTABLE_MAPS * _FLOAT32 + (2 * _FLOAT32 if converts else 0)
    return size + (_CONVERTED_MAPS * _FLOAT32 if converts and device.type == "cpu" else 0)
