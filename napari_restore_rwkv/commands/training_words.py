"""The arguments of the commands that train: ``finetune``, ``train`` and ``reproduce``."""

from __future__ import annotations

import argparse
from typing import Any

from ..tasks import TASKS
from .arguments import path, positive
from .requests import FineTuneRequest, ReproduceRequest, TrainRequest, command

EXAMPLE = """\
Fine-tune weights on your own scans. Some slices are held out; the new weights are kept only if they restore
those better by more than 0.1 dB with SSIM no worse. CONFIG is a TOML file; names in it are relative to it:

  weights = "ct-denoise"               # a task with shipped weights, a weights file, or a bundle
  output = "our-scanner.restorerwkv"   # the bundle, if it is accepted; by default in your bundles folder
  folder = "fine-tuning"               # keeps the state: the same command continues after an interruption

  [[scans]]                            # once for each scan; a degraded one, a reference, or both
  degraded = "low_dose.nii.gz"
  target = "full_dose.nii.gz"
  labels = "labels.nii.gz"             # 1 train here, 2 emphasise, 3 ignore, 4 keep as is, 5 hold out
  modality = "CT"                      # if the files do not say
  # strength = 1.0                     # of the simulated degradation, if there is only a reference; or
  # strength_like = "noisy.nii.gz"     # as strong as the noise of this scan

  # [[folders]]                        # files of the same name in two folders, or files in only one of them
  # degraded = "low_dose"
  # target = "full_dose"

  [options]
  steps = 500                          # 300 to 2000 for the light network
  seed = 0
  # adapter_rank = 8                   # 0 trains all weights; by default only the full network uses adapters
  # learning_rate = 2e-4
  # score_every = 50
  # task = "ct-denoise"                # for weights that do not say what they are for
  # axis = "auto"
  # force = false                      # accept a pair that is shifted by more than a pixel
  # title = "our scanner, soft kernel"
"""
_TRAIN = """\
Train a network on folders of scans, from scratch or from weights, for one task or several. CONFIG is a TOML file; file
names in it are relative to it. configs/ has examples, docs/training.md explains every name. Several processes or GPUs:

  torchrun --nproc-per-node 2 --no-python restore-rwkv train CONFIG.toml
"""
_REPRODUCE = """\
Train the full network as in arXiv 2407.11087, or load one, and evaluate it on the test data as the paper does: its
table beside yours. DATA contains PET, CT and MRI, each with train, validation and test, and in these LQ (degraded) and
HQ (reference) with slices of the same names.
"""


def add_finetune(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``finetune CONFIG``."""
    parser = commands.add_parser(
        "finetune",
        parents=parents,
        help="adapt weights to your own scans, and keep them only if they are better",
        description=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=path, metavar="CONFIG", help="TOML file that says what to train on")
    parser.set_defaults(run=command(FineTuneRequest, "finetune", "fine_tune_from_file"))


def add_train(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``train CONFIG``."""
    parser = commands.add_parser(
        "train",
        parents=parents,
        help="train a network on folders of scans",
        description=_TRAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=path, metavar="CONFIG", help="a TOML file, such as configs/paper_ct.toml")
    parser.set_defaults(run=command(TrainRequest, "train", "train_from_file"))


def add_reproduce(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``reproduce paper``."""
    parser = commands.add_parser(
        "reproduce",
        parents=parents,
        help="train and evaluate as the paper does",
        description=_REPRODUCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("paper",), help="arXiv 2407.11087")
    parser.add_argument("--data", type=path, required=True, metavar="FOLDER", help="its data, see above")
    parser.add_argument("--task", choices=tuple(TASKS), required=True, help="what to train and evaluate")
    parser.add_argument("--checkpoint", type=path, metavar="FILE", help="evaluate these weights instead of training")
    parser.add_argument("--folder", type=path, metavar="FOLDER", help="keeps state and curves of the training")
    parser.add_argument("--output", type=path, metavar="FILE", help="bundle for the trained weights")
    parser.add_argument("--steps", type=positive, metavar="N", help="train for fewer steps than the paper's 300000")
    parser.add_argument("--light", action="store_true", help="train the light network instead of the paper's")
    parser.set_defaults(run=command(ReproduceRequest, "reproduce", "reproduce_paper"))
