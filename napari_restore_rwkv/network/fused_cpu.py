"""The network's parts on a CPU, for inference: each in one call to the compiled kernel.

The plain modules of `model` define what is computed; this computes the same, tile by tile, so that intermediate values
between two layers never leave the cache (`src_kernels/README.md`). A network uses it after `RestoreRWKV.fused()`,
without gradients, on float32 maps whose channels are multiples of 16. In any other case, and if the environment has
RESTORE_RWKV_FUSED=0, the functions here return None and the plain module does the work.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from . import bi_wkv_cpu
from .bi_wkv import re_wkv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .blocks import Block
    from .model import RestoreRWKV

SWITCH = "RESTORE_RWKV_FUSED"
# Channels that the kernel processes side by side.
_LANES = 16
_OUT_OF_MEMORY, _OUT_OF_RANGE = 1, 2
_PLAIN, _UNSHUFFLE, _SHUFFLE, _JOIN = range(4)

_POINTERS = (
    *("norm1_scale", "norm1_bias", "shift1", "key_value_receptance", "output", "decay", "bonus"),
    *("norm2_scale", "norm2_bias", "shift2", "receptance2", "key2", "value2"),
)


class _Block(ctypes.Structure):
    """`BlockCall` of src_kernels/fused_cpu.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("x", "terms", "values", "gate", "states")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_float) for name in ("epsilon1", "epsilon2")),
    )


class _Product(ctypes.Structure):
    """`MapProduct` of src_kernels/fused.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("height", "width")),
        *((name, ctypes.c_int) for name in ("from_", "from_second", "to")),
        *((name, ctypes.c_void_p) for name in ("x", "second", "matrix", "bias", "y")),
        ("y_stride", ctypes.c_int64),
    )


def block(module: Block, x: Tensor) -> Tensor | None:
    """Do what a block does, (B, Y, X, C) to the same shape; None if the plain module has to."""
    if not _serves(x) or module.att.operator is not re_wkv:
        return None
    batch, height, width, channels = x.shape
    weights = _kept(module, _block_weights)
    # Besides x only three maps exist at a time: terms (which becomes the result), values and gates.
    terms, values, gate = (torch.empty_like(x) for _ in range(3))
    states = x.new_empty(_states(height, width, channels))
    scan = [parameter / (height * width) for parameter in (module.att.spatial_decay, module.att.spatial_first)]
    pointers = dict(zip(_POINTERS, [*weights[:5], *scan, *weights[5:]], strict=True))
    call = _Block(
        **dict(zip(("batch", "height", "width", "channels"), (batch, height, width, channels), strict=True)),
        **{name: tensor.data_ptr() for name, tensor in {**pointers, "x": x, "terms": terms}.items()},
        values=values.data_ptr(),
        gate=gate.data_ptr(),
        states=states.data_ptr(),
        epsilon1=module.ln1.eps,
        epsilon2=module.ln2.eps,
    )
    return terms if _run("restore_block", call, x) else None


def embed(network: RestoreRWKV, image: Tensor, context: Tensor) -> Tensor | None:
    """Convolve an image and its context of 0 or 3 channels, (B, channels, Y, X) to (B, Y, X, C).

    None if the plain modules have to.
    """
    convs = [network.patch_embed, *([] if network.context_embed is None else [network.context_embed])]
    channels = network.patch_embed.out_channels
    if torch.is_grad_enabled() or not _can_serve(image, channels):
        return None
    # A library built from an earlier version of the sources has no plain product.
    if not hasattr(bi_wkv_cpu.library(), "restore_plain_product"):
        return None

    def weights(_: nn.Module) -> list[Tensor]:
        kernels = torch.cat([conv.weight for conv in convs], dim=1)
        return [_columns(_neighbourhood(kernels)), _bias_of(convs[0])]

    matrix, bias = _kept(convs[0], weights, *convs[1:])
    x = torch.cat((image, context), dim=1).permute(0, 2, 3, 1).contiguous()
    y = x.new_empty(*x.shape[:3], channels)
    return y if _products(_PLAIN, x, None, matrix, y, channels, bias) else None


def downsample(module: nn.Module, conv: nn.Module, x: Tensor) -> Tensor | None:
    """Convolve and unshuffle by 2, (B, Y, X, C) to (B, Y/2, X/2, 2C); None if the plain module has to."""
    if not isinstance(conv, nn.Conv2d):
        return None
    if not _serves(x):
        return None
    batch, height, width = x.shape[:3]
    [matrix] = _kept(module, lambda _: [_columns(_neighbourhood(conv.weight))])
    y = x.new_empty(batch, height // 2, width // 2, 4 * conv.out_channels)
    return y if _products(_UNSHUFFLE, x, None, matrix, y, conv.out_channels) else None


def upsample(module: nn.Module, conv: nn.Module, x: Tensor) -> Tensor | None:
    """Convolve and shuffle by 2, (B, Y, X, C) to (B, 2Y, 2X, C/2); None if the plain module has to."""
    if not isinstance(conv, nn.Conv2d):
        return None
    if not _serves(x) or conv.out_channels % (4 * _LANES):
        return None
    batch, height, width = x.shape[:3]

    def by_quarters(_: nn.Module) -> list[Tensor]:
        # The kernel writes the four pixels one after another.
        return [_columns(_neighbourhood(conv.weight).unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1))]

    [matrix] = _kept(module, by_quarters)
    y = x.new_empty(batch, 2 * height, 2 * width, conv.out_channels // 4)
    return y if _products(_SHUFFLE, x, None, matrix, y, conv.out_channels) else None


def join(conv: nn.Module, x: Tensor, skip: Tensor) -> Tensor | None:
    """Convolve two maps side by side, (B, Y, X, C) each to (B, Y, X, C), 1x1; None if the plain module has to."""
    if not (isinstance(conv, nn.Conv2d) and _serves(x) and _serves(skip)):
        return None
    if conv.out_channels % _LANES:
        return None
    matrix, bias = _kept(conv, _joining_weights)
    y = x.new_empty(*x.shape[:3], conv.out_channels)
    return y if _products(_JOIN, x, skip, matrix, y, conv.out_channels, bias) else None


def serves(network: RestoreRWKV) -> bool:
    """Whether at least the widest blocks of a network are computed here."""
    block = cast("Block", network.decoder_level1[0])
    channels = 2 * network.patch_embed.out_channels
    return block.fused and block.att.operator is re_wkv and _can_serve(network.output.weight, channels)


def bytes_of_block(network: RestoreRWKV, height: int, width: int) -> int | None:
    """Bytes that the widest block takes for a map of this size, its input included; None if it is a plain block."""
    if not serves(network):
        return None
    weight, channels = network.output.weight, 2 * network.patch_embed.out_channels
    return weight.element_size() * (4 * height * width * channels + _states(height, width, channels))


def _states(height: int, width: int, channels: int) -> int:
    """Count of numbers that the two scans of a map carry from chunk to chunk."""
    count = bi_wkv_cpu.library().restore_block_states  # type: ignore[union-attr]
    count.restype = ctypes.c_int64
    return count(*(ctypes.c_int64(size) for size in (height, width, channels)))


def _serves(x: Tensor) -> bool:
    return not torch.is_grad_enabled() and x.is_contiguous() and _can_serve(x, x.shape[-1])


def _can_serve(x: Tensor, channels: int) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and channels % _LANES == 0
        and os.environ.get(SWITCH) != "0"
        # A library built from an earlier version of the sources has no such function.
        and hasattr(bi_wkv_cpu.library(), "restore_block")
    )


def _products(
    kind: int, x: Tensor, second: Tensor | None, matrix: Tensor, y: Tensor, channels: int, bias: Tensor | None = None
) -> bool:
    for image in range(x.shape[0]):
        other = second[image] if second is not None else None
        call = _Product(
            kind=kind,
            height=x.shape[1],
            width=x.shape[2],
            from_=x.shape[3],
            from_second=0 if other is None else other.shape[2],
            to=channels,
            x=x[image].data_ptr(),
            second=None if other is None else other.data_ptr(),
            matrix=matrix.data_ptr(),
            bias=None if bias is None else bias.data_ptr(),
            y=y[image].data_ptr(),
            y_stride=y.shape[3],
        )
        if not _run("restore_plain_product" if kind == _PLAIN else "restore_product", call, x):
            return False
    return True


def _run(name: str, call: ctypes.Structure, x: Tensor) -> bool:
    """Call the kernel; False if the numbers are too large for it."""
    outcome = getattr(bi_wkv_cpu.library(), name)(ctypes.byref(call), ctypes.c_int(torch.get_num_threads()))
    if outcome == _OUT_OF_MEMORY:
        raise MemoryError(f"There is not enough memory for the workspace of {x.numel()} elements; use smaller slices.")
    return outcome != _OUT_OF_RANGE


def _block_weights(module: Block) -> list[Tensor]:
    att, ffn = module.att, module.ffn
    return [
        *(module.ln1.weight, module.ln1.bias, _depthwise(att.omni_shift)),
        torch.cat([_columns(linear.weight) for linear in (att.key, att.value, att.receptance)]),
        _columns(module.gamma1[:, None] * att.output.weight),
        *(module.ln2.weight, module.ln2.bias, _depthwise(ffn.omni_shift)),
        *(_columns(ffn.receptance.weight), _columns(ffn.key.weight)),
        _columns(module.gamma2[:, None] * ffn.value.weight),
    ]


def _joining_weights(conv: nn.Conv2d) -> list[Tensor]:
    return [_columns(conv.weight.flatten(1)), _bias_of(conv)]


def _bias_of(conv: nn.Conv2d) -> Tensor:
    return conv.bias if conv.bias is not None else conv.weight.new_zeros(conv.out_channels)


def _columns(weight: Tensor) -> Tensor:
    """The matrix of a layer, (outputs, inputs), in the kernel's layout: (groups of 16 outputs, inputs, 16)."""
    padded = nn.functional.pad(weight, (0, 0, 0, -len(weight) % _LANES))
    return padded.unflatten(0, (-1, _LANES)).transpose(1, 2).contiguous()


def _depthwise(shift: nn.Module) -> Tensor:
    """Depthwise kernels of a folded shift, (C, 1, 5, 5), as (C/16, 25, 16)."""
    weight = shift.weight
    assert isinstance(weight, Tensor)
    return _columns(weight.flatten(1))


def _neighbourhood(weight: Tensor) -> Tensor:
    """3x3 kernels, (outputs, inputs, 3, 3), as (outputs, 9 inputs) in the order (y, x, input)."""
    return weight.permute(0, 2, 3, 1).flatten(1)


_packed: WeakKeyDictionary[nn.Module, tuple[Sequence[tuple[int, int]], list[Tensor]]] = WeakKeyDictionary()


def _kept(module: nn.Module, pack: Callable[..., list[Tensor]], *more: nn.Module) -> list[Tensor]:
    """The weights of one or more modules in the kernel's layout, packed again when one of them has changed."""
    state = [
        (value.data_ptr(), 0 if value.is_inference() else value._version)
        for part in (module, *more)
        for value in part.state_dict(keep_vars=True).values()
    ]
    known = _packed.get(module)
    if known is None or known[0] != state:
        with torch.no_grad():
            known = _packed[module] = (state, [value.detach() for value in pack(module)])
    return known[1]
