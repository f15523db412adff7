"""The building blocks of Restore-RWKV: attention over all pixels and a channel mix, both with Omni-Shift.

Shapes are written as B batch, C channels, Y X the image, T = Y * X tokens. Parameter names are those of the authors'
checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import fused_cpu
from .bi_wkv import re_wkv

# Values of a channel mix's hidden layer that a CPU processes at a time: 1 MiB in float32, which fits its cache.
_HIDDEN_VALUES_IN_CACHE = 1 << 18

ReWKV = Callable[[Tensor, Tensor, Tensor, Tensor, int, int], Tensor]


class OmniShift(nn.Module):
    """Mix each channel with its neighbours: a_0 x + a_1 DW1x1(x) + a_2 DW3x3(x) + a_3 DW5x5(x), depthwise, no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((4,), 0.25))
        self.conv1x1 = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.conv3x3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.conv5x5 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shift a map; (B, C, Y, X) to the same shape."""
        return functional.conv2d(x, self.folded_weight(), padding=2, groups=x.shape[1])

    def folded_weight(self) -> Tensor:
        """All four terms as one depthwise 5x5 kernel, shape (C, 1, 5, 5)."""
        identity = functional.pad(torch.ones_like(self.conv1x1.weight), (2, 2, 2, 2))
        one = functional.pad(self.conv1x1.weight, (2, 2, 2, 2))
        three = functional.pad(self.conv3x3.weight, (1, 1, 1, 1))
        terms = torch.stack((identity, one, three, self.conv5x5.weight))
        return torch.einsum("a,acoyx->coyx", self.alpha, terms)

    def folded(self) -> nn.Conv2d:
        """Return the equivalent plain convolution."""
        channels = self.conv1x1.weight.shape[0]
        conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False, device=self.alpha.device)
        conv.weight = nn.Parameter(self.folded_weight().detach(), requires_grad=False)
        return conv


def shift(shift: nn.Module, x: Tensor) -> Tensor:
    """Apply a map operator to (B, Y, X, C) without moving memory: channels stay the fastest axis."""
    return shift(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # B Y X C


class SpatialMix(nn.Module):
    """Attention over all pixels: W_o(sigmoid(r) * ReWKV(k, v)) with k, v, r linear in the shifted input."""

    def __init__(self, channels: int, operator: ReWKV = re_wkv) -> None:
        super().__init__()
        self.operator = operator
        self.spatial_decay = _drawn(2, channels)
        self.spatial_first = _drawn(2, channels)
        self.omni_shift: nn.Module = OmniShift(channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.receptance = nn.Linear(channels, channels, bias=False)
        self.output = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, C) to the same shape."""
        shifted = shift(self.omni_shift, x)
        return self.gated(shifted, self.attend(self.key(shifted), self.value(shifted)))

    def attend(self, k: Tensor, v: Tensor) -> Tensor:
        """ReWKV of keys and values, (B, Y, X, C) to the same shape."""
        height, width = k.shape[1:3]
        tokens = height * width
        decay, bonus = self.spatial_decay / tokens, self.spatial_first / tokens
        attended = self.operator(decay, bonus, k.flatten(1, 2), v.flatten(1, 2), height, width)  # B T C
        return attended.unflatten(1, (height, width))  # B Y X C

    def gated(self, shifted: Tensor, attended: Tensor) -> Tensor:
        """W_o(sigmoid(W_r shifted) * attended), pixel by pixel."""
        return self.output(torch.sigmoid(self.receptance(shifted)) * attended)


class ChannelMix(nn.Module):
    """Per-pixel mixing: sigmoid(W_r s) * W_v(relu(W_k s)^2) with four times as many hidden channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.omni_shift: nn.Module = OmniShift(channels)
        self.key = nn.Linear(channels, 4 * channels, bias=False)
        self.value = nn.Linear(4 * channels, channels, bias=False)
        self.receptance = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, C) to the same shape."""
        shifted = shift(self.omni_shift, x)
        # A GPU is fastest with one large product; between many small ones it would wait.
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return self.mix(shifted)
        # A few rows at a time: the hidden layer stays in the cache and never exists as a whole.
        rows = max(1, _HIDDEN_VALUES_IN_CACHE // (x.shape[0] * x.shape[2] * 4 * x.shape[3]))
        mixed = torch.empty_like(shifted)
        for part, result in zip(shifted.split(rows, dim=1), mixed.split(rows, dim=1), strict=True):
            result.copy_(self.mix(part))
        return mixed

    def mix(self, shifted: Tensor) -> Tensor:
        """sigmoid(W_r s) * W_v(relu(W_k s)^2), pixel by pixel."""
        hidden = torch.relu(self.key(shifted)).square()
        return torch.sigmoid(self.receptance(shifted)) * self.value(hidden)


class Block(nn.Module):
    """x + gamma_1 SpatialMix(LN(x)), then x + gamma_2 ChannelMix(LN(x))."""

    # Set in a fused network: `fused_cpu` does the work where it can.
    fused = False

    def __init__(self, channels: int, operator: ReWKV = re_wkv) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels)
        self.ln2 = nn.LayerNorm(channels)
        self.att = SpatialMix(channels, operator)
        self.ffn = ChannelMix(channels)
        self.gamma1 = nn.Parameter(torch.full((channels,), 0.2))
        self.gamma2 = nn.Parameter(torch.full((channels,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, C) to the same shape."""
        if self.fused and (result := fused_cpu.block(self, x)) is not None:
            return result
        x = torch.addcmul(x, self.gamma1, self.att(self.ln1(x)))
        return torch.addcmul(x, self.gamma2, self.ffn(self.ln2(x)))


class Downsample(nn.Module):
    """Halve both sides and double the channels."""

    fused = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, C) to (B, Y/2, X/2, 2C)."""
        if self.fused and (result := fused_cpu.downsample(self, self.body[0], x)) is not None:
            return result
        return shift(self.body, x).contiguous()


class Upsample(nn.Module):
    """Double both sides and halve the channels."""

    fused = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, C) to (B, 2Y, 2X, C/2)."""
        if self.fused and (result := fused_cpu.upsample(self, self.body[0], x)) is not None:
            return result
        return shift(self.body, x).contiguous()


def _drawn(*size: int) -> nn.Parameter:
    """Return a parameter of standard normal numbers; left empty on the meta device, where drawing takes a second.

    Drawing imports the compiler stack there, and a network without memory is built each time a weights file is checked.
    """
    values = torch.empty(*size)
    return nn.Parameter(values if values.is_meta else values.normal_())
