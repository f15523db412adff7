"""Train a plain U-Net on the same pairs and steps as ours: the learned peer in the benchmark, never shipped.

    python scripts/train_unet.py --task TASK   # continues where it stopped; needs the data that train_weights.py packs

Its state is in training_state/TASK/unet/.
"""

import argparse
from dataclasses import replace

import torch
import train_weights
from recipes.table import RECIPES
from unet import UNet

from napari_restore_rwkv.device import choose_device
from napari_restore_rwkv.tasks import TASKS


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
    recipe = replace(recipe, start_from=None, options=replace(recipe.options, learning_rate=1e-3))
    folder = data / "unet"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.options.seed)
    train_weights.train(recipe, folder, chosen.minutes, choose_device(chosen.device), network=UNet(), data=data)


if __name__ == "__main__":
    main()
