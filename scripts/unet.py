"""A plain U-Net, the learned peer that our networks are measured against."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

_LEVELS = 3


class UNet(nn.Module):
    """Two convolutions per level, four levels, 1.2 million parameters with 25 channels; a new one is the identity."""

    def __init__(self, channels: int = 25) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(_LEVELS + 1)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([1, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_pair(3 * width, width) for width in reversed(widths[:-1]))
        self.output = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Restore (B, 1, Y, X) images of any size; further channels are ignored."""
        image = image[:, :1]
        height, width = image.shape[2:]
        multiple = 2**_LEVELS
        x = padded = functional.pad(image, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat((x, skips.pop()), dim=1))
        return (self.output(x) + padded)[:, :, :height, :width]

    def fused(self) -> nn.Module:
        """Return a copy for inference, under the name that the trainer knows."""
        return deepcopy(self).requires_grad_(False).eval()


def _pair(given: int, made: int) -> nn.Sequential:
    first, second = nn.Conv2d(given, made, 3, padding=1), nn.Conv2d(made, made, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


def trained(folder: Path) -> UNet | None:
    """Return the U-Net that train_unet.py trained for the task whose data are in a folder; None if it has not."""
    best = folder / "unet" / "best.pt"
    if not best.exists():
        return None
    network = UNet()
    network.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["average"])
    return network.eval()
