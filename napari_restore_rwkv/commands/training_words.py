"""The arguments of the commands that train from scratch: ``train`` and ``reproduce``."""

from __future__ import annotations

import argparse
from typing import Any

from ..tasks import TASKS
from .arguments import path, positive

_TRAIN = """\
Train a network on folders of scans, from nothing or from weights, for one task or several. CONFIG is a TOML file; names
in it are relative to it. configs/ has ready ones, docs/training.md explains every name. Several processes or GPUs:

  torchrun --nproc-per-node 2 -m napari_restore_rwkv train CONFIG.toml
"""
_REPRODUCE = """\
Train the full network, or load one, as arXiv 2407.11087 says, and measure it on the test data as it does: its table
beside yours. DATA holds PET, CT and MRI, each with train, validation and test, and in these LQ (degraded) and HQ
(reference) with slices of the same names.
"""


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
    parser.set_defaults(run=_train)


def add_reproduce(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``reproduce paper``."""
    parser = commands.add_parser(
        "reproduce",
        parents=parents,
        help="train and measure as the paper does",
        description=_REPRODUCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("paper",), help="arXiv 2407.11087")
    parser.add_argument("--data", type=path, required=True, metavar="FOLDER", help="its data, see above")
    parser.add_argument("--task", choices=tuple(TASKS), required=True, help="what to train and measure")
    parser.add_argument("--checkpoint", type=path, metavar="FILE", help="measure these weights instead of training")
    parser.add_argument("--folder", type=path, metavar="FOLDER", help="keeps state and curves of the training")
    parser.add_argument("--output", type=path, metavar="FILE", help="bundle for the trained weights")
    parser.add_argument("--steps", type=positive, metavar="N", help="train for fewer steps than the paper's 300000")
    parser.add_argument("--light", action="store_true", help="train the light network instead of the paper's")
    parser.set_defaults(run=_reproduce)


def _train(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .train import train_from_file

    return train_from_file(arguments)


def _reproduce(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .reproduce import reproduce_paper

    return reproduce_paper(arguments)
