"""Restore-RWKV (arXiv 2407.11087), a U-Net.

Its blocks attend with recurrent bidirectional WKV and shift with Omni-Shift.

Shapes are written as B batch, C channels, Y X the image, T = Y * X tokens. Parameter names are those of the authors'
checkpoints, so weights can be exchanged in both directions.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import fused_cpu
from .bi_wkv import kernel_in_use, re_wkv
from .blocks import Block, ChannelMix, Downsample, OmniShift, ReWKV, SpatialMix, Upsample, shift
from .restorer import Restorer
from .strips import block_in_strips

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

# The image is halved three times: both sides are padded to a multiple of this, and cropped back.
SIDE_MULTIPLE = 8

# The additional input channels of a network that looks beyond its slice, in this order: the slices below and above, and
# the noise level.
CONTEXT_CHANNELS = 3
# The noise level channel is constant: this many times the standard deviation of the noise in network units; 1 means
# some 100 HU.
NOISE_LEVEL_SCALE = 40.0
UNKNOWN_NOISE = 0.0


class RestoreRWKV(Restorer):
    """The whole network, from image to image.

    A new network is the identity: its last convolution starts at zero.

    Parameters
    ----------
    channels
        Width C of the first level; the levels have C, 2C, 4C, 8C channels.
    blocks
        Blocks of the four levels.
    refinement
        Blocks after the decoder, at 2C channels.
    operator
        The recurrent WKV attention; another implementation of the same definition may replace the compiled one.
    context
        0 for a network that sees a single slice and nothing else, or `CONTEXT_CHANNELS`.

    Attributes
    ----------
    turns
        Over how many quarter turns of the image the result is averaged, 1 to 4: a self-ensemble. The scans through an
        image run along its axes, so the turned image gives another estimate of the same result.
    wrapped_border
        How many pixels are repeated around the image from its opposite side, 0 or more. The ringing of an MR slice,
        whose k-space is discrete, continues across its edges to the opposite side (Bracewell, The Fourier Transform
        and Its Applications, ch. 10).
    """

    def __init__(
        self,
        channels: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        operator: ReWKV = re_wkv,
        context: int = 0,
    ) -> None:
        super().__init__()
        if context not in (0, CONTEXT_CHANNELS):
            raise ValueError(f"A network has 0 or {CONTEXT_CHANNELS} channels of context; got {context}.")
        c = channels

        def level(width: int, count: int) -> nn.ModuleList:
            return nn.ModuleList(Block(width, operator) for _ in range(count))

        self.patch_embed = nn.Conv2d(1, c, 3, padding=1)
        # A layer of its own, which starts at zero: weights of one slice are good weights to start from.
        self.context_embed = nn.Conv2d(context, c, 3, padding=1, bias=False) if context else None
        self.encoder_level1 = level(c, blocks[0])
        self.down1_2 = Downsample(c)
        self.encoder_level2 = level(2 * c, blocks[1])
        self.down2_3 = Downsample(2 * c)
        self.encoder_level3 = level(4 * c, blocks[2])
        self.down3_4 = Downsample(4 * c)
        self.latent = level(8 * c, blocks[3])
        self.up4_3 = Upsample(8 * c)
        self.reduce_chan_level3 = nn.Conv2d(8 * c, 4 * c, 1)
        self.decoder_level3 = level(4 * c, blocks[2])
        self.up3_2 = Upsample(4 * c)
        self.reduce_chan_level2 = nn.Conv2d(4 * c, 2 * c, 1)
        self.decoder_level2 = level(2 * c, blocks[1])
        self.up2_1 = Upsample(2 * c)
        self.decoder_level1 = level(2 * c, blocks[0])
        self.refinement = level(2 * c, refinement)
        self.output = nn.Conv2d(2 * c, 1, 3, padding=1)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)
        if self.context_embed is not None:
            nn.init.zeros_(self.context_embed.weight)

    @classmethod
    def full(cls, context: int = 0) -> RestoreRWKV:
        """Build the network of the paper's main results, 27.85 million parameters when fused."""
        return cls(48, (4, 6, 6, 8), 4, context=context)

    @classmethod
    def light(cls, context: int = 0) -> RestoreRWKV:
        """Build the light network, 1.16 million parameters when fused."""
        return cls(16, (1, 1, 2, 2), 1, context=context)

    def kernel(self, device: torch.device) -> str:
        """Name of the kernel of its attention; it says whether whole blocks are one call, which rounds differently."""
        whole = device.type == "cpu" and fused_cpu.serves(self)
        return f"{kernel_in_use(device).name}{', whole blocks' if whole else ''}"

    @property
    def context(self) -> int:  # type: ignore[override]
        """Channels of context: 0, or `CONTEXT_CHANNELS`."""
        return 0 if self.context_embed is None else self.context_embed.in_channels

    def forward(self, image: Tensor) -> Tensor:
        """Restore a batch of images.

        Parameters
        ----------
        image
            Shape (B, 1, Y, X), any Y and X, values scaled to about [0, 1]. Weights of lower precision than the
            image are allowed: the network's change is added to the image as it came. A network with context
            also takes (B, 1 + CONTEXT_CHANNELS, Y, X): the image, the slices below and above it in the same scale,
            and the noise level (see `NOISE_LEVEL_SCALE`); without them the slice is repeated, its noise unknown.

        Returns
        -------
        Tensor
            The restored images, shape (B, 1, Y, X).
        """
        # All but the last are dropped at once, since they are as large as the maps.
        for result in self.stages(image):
            restored = result
        return restored

    def stages(self, image: Tensor, *, in_strips: bool = False) -> Iterator[Tensor]:
        """Run the network block by block, yielding each block's result and the restored image last.

        So a caller can show progress, or stop, within one large image. The length is `number_of_stages`. With
        `in_strips` the maps inside a block exist only in strips of rows: slower, but the same result with less memory.
        """
        return self._blocks(image, in_strips) if self.turns == 1 else self._turned(image, in_strips)

    def _turned(self, image: Tensor, in_strips: bool) -> Iterator[Tensor]:
        """Run the network on each turn of the image; the last value is the mean of the results, turned back."""
        restored = yield from self._blocks(image, in_strips, alone=False)
        for turn in range(1, self.turns):
            turned = yield from self._blocks(image.rot90(turn, (2, 3)), in_strips, alone=False)
            restored = restored + turned.rot90(-turn, (2, 3))
        yield restored / self.turns

    def _blocks(self, image: Tensor, in_strips: bool, *, alone: bool = True) -> Generator[Tensor, None, Tensor]:
        """Run the network once, yielding each block's result and, if it runs `alone`, the restored image last."""
        run: Callable[[Any, Tensor], Tensor] = block_in_strips if in_strips else Block.__call__
        height, width = image.shape[2:]
        border = self.wrapped_border
        sides = self.padded_sides(height, width)
        padded = _wrapped(image, border, *sides) if border else _mirrored(image, *sides)
        x = self._embedded(padded.to(self.patch_embed.weight.dtype)).to(self.output.weight.dtype)

        # Maps are popped when used, so that they do not take memory beside the large maps of the last levels.
        skips = []
        for blocks, down in (
            (self.encoder_level1, self.down1_2),
            (self.encoder_level2, self.down2_3),
            (self.encoder_level3, self.down3_4),
        ):
            for block in blocks:
                x = run(block, x)
                yield x
            skips.append(x)
            x = down(x)
        for block in self.latent:
            x = run(block, x)
            yield x
        for up, reduce, blocks in (
            (self.up4_3, self.reduce_chan_level3, self.decoder_level3),
            (self.up3_2, self.reduce_chan_level2, self.decoder_level2),
            (self.up2_1, nn.Identity(), self.decoder_level1 + self.refinement),
        ):
            x = _joined(reduce, up(x), skips.pop(), fused=up.fused)
            for block in blocks:
                x = run(block, x)
                yield x

        restored = self.output(x.permute(0, 3, 1, 2)) + padded[:, :1]
        restored = restored[:, :, border : border + height, border : border + width]
        if alone:
            yield restored
        return restored

    def padded_sides(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of an image of this size with its border, as it passes through the network."""
        sides = (side + 2 * self.wrapped_border for side in (height, width))
        rows, columns = (side + -side % SIDE_MULTIPLE for side in sides)
        return rows, columns

    def _embedded(self, image: Tensor) -> Tensor:
        """First feature maps of a padded image with or without its context, (B, Y, X, C)."""
        slice_, context = image[:, :1], image[:, 1 : 1 + self.context]
        if self.context and not context.shape[1]:
            context = torch.cat((slice_, slice_, torch.full_like(slice_, UNKNOWN_NOISE)), dim=1)
        if self.down1_2.fused and (result := fused_cpu.embed(self, slice_, context)) is not None:
            return result
        x = self.patch_embed(slice_)
        if self.context_embed is not None:
            x = x + self.context_embed(context)
        return x.permute(0, 2, 3, 1).contiguous()

    @property
    def number_of_stages(self) -> int:
        """How many results `stages` yields."""
        return self.turns * sum(isinstance(module, Block) for module in self.modules()) + 1

    def fused(self, weights: Mapping[str, Tensor] | None = None) -> RestoreRWKV:
        """Return a copy for inference, with other weights if given: Omni-Shifts folded into convolutions, no gradients.

        On a CPU its parts are computed by `fused_cpu` where possible.
        """
        copy = deepcopy(self)
        if weights is not None:
            copy.load_state_dict(weights)
        return copy.fuse()

    def fuse(self) -> RestoreRWKV:
        """Fuse the network in place, as `fused` does for a copy, and return it."""
        for module in list(self.modules()):
            if isinstance(module, Block | Downsample | Upsample):
                module.fused = True
            if isinstance(module, SpatialMix | ChannelMix) and isinstance(module.omni_shift, OmniShift):
                module.omni_shift = module.omni_shift.folded()
        return self.requires_grad_(False).eval()


def _joined(reduce: nn.Module, x: Tensor, skip: Tensor, *, fused: bool) -> Tensor:
    """Two maps (B, Y, X, C) side by side, reduced to the number of channels of the level."""
    if fused and (result := fused_cpu.join(reduce, x, skip)) is not None:
        return result
    return shift(reduce, torch.cat((x, skip), dim=3)).contiguous()


def _wrapped(image: Tensor, border: int, height: int, width: int) -> Tensor:
    """Repeat an image periodically to this size, its first pixel behind a border at the top and left."""
    for axis, side in ((2, height), (3, width)):
        image = image.index_select(axis, (torch.arange(side, device=image.device) - border) % image.shape[axis])
    return image


def _mirrored(image: Tensor, height: int, width: int) -> Tensor:
    """Mirror an image at the bottom and right to this size, or repeat its edge if it is too small to mirror."""
    bottom, right = height - image.shape[2], width - image.shape[3]
    if not (bottom or right):
        return image
    mirrors = bottom < image.shape[2] and right < image.shape[3]
    return functional.pad(image, (0, right, 0, bottom), mode="reflect" if mirrors else "replicate")
