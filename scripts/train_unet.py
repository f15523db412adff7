"""Train a plain U-Net on the pairs and the number of steps of ours: the learned peer of the benchmark, never shipped.

    python scripts/train_unet.py --task TASK   # continues where it stopped; needs the data that train_weights.py packs

Its state lies in training_state/TASK/unet/.
"""

import argparse
from copy import deepcopy
from dataclasses import replace

import torch
import train_weights
from torch import Tensor, nn
from torch.nn import functional

from napari_restore_rwkv.device import choose_device
from napari_restore_rwkv.tasks import TASKS
from napari_restore_rwkv.training.recipes.recipe import Recipe
from napari_restore_rwkv.training.recipes.table import RECIPES

_LEVELS = 3


class UNet(nn.Module):
    """Two convolutions a level, four levels, 1.2 million parameters with 25 channels; a new one is the identity."""

    def __init__(self, channels: int = 25) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(_LEVELS + 1)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([1, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_pair(3 * width, width) for width in reversed(widths[:-1]))
        self.output = nn.Conv2d(channels, 1, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Restore (B, 1, Y, X) images of any size."""
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


def budget(recipe: Recipe) -> int:
    """Steps of a recipe with those of all stages that it starts from."""
    own = recipe.stop_after or recipe.options.steps
    return own + (budget(RECIPES[recipe.start_from]) if recipe.start_from else 0)


def main() -> None:
    """Train for the task named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recipe, data = RECIPES[chosen.task], train_weights.STATES / chosen.task
    recipe = replace(recipe, start_from=None, options=replace(recipe.options, steps=budget(recipe), learning_rate=1e-3))
    folder = data / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.options.seed)
    train_weights.train(recipe, folder, chosen.minutes, choose_device(chosen.device), network=UNet(), data=data)


if __name__ == "__main__":
    main()
