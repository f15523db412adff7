"""The work behind ``restore-rwkv reproduce paper``: train as the paper does, or load weights, and measure them."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..progress import Run
from .train import run, speaks

if TYPE_CHECKING:
    import argparse

    from ..network.model import RestoreRWKV


def reproduce_paper(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Reproduce the paper's table; return values for ``--json``, text, and the exit code."""
    from ..device import choose_device
    from ..training.paper import paper_source, paper_tasks
    from ..training.reproduction import measure, table

    # What is missing for the end is told before days of training.
    for task in paper_tasks(arguments.task):
        paper_source(arguments.data, task, "test")
    network, bundle = _network(arguments)
    if not speaks():
        return {"measured": []}, "The first process measures.", 0
    network = network.to(choose_device(arguments.device))
    with (
        tqdm(unit="slice", file=sys.stderr, disable=not sys.stderr.isatty()) as bar,
        closing(Run(measure(network, arguments.data, arguments.task))) as steps,
    ):
        for task in steps:
            bar.set_description(task, refresh=False)
            bar.update()
    measured = steps.result
    values = {"bundle": bundle, "measured": [one.as_dict() for one in measured]}
    return values, "\n".join([table(measured), *([f"Written to {bundle}"] if bundle else [])]), 0


def _network(arguments: argparse.Namespace) -> tuple[RestoreRWKV, str | None]:
    """The network to measure, fused, and the bundle that was written of it."""
    if arguments.checkpoint is not None:
        from ..network.checkpoint import load_checkpoint

        return load_checkpoint(arguments.checkpoint), None
    from ..training.config import Network
    from ..training.paper import paper_config

    config = paper_config(arguments.data, arguments.task)
    config = replace(config, folder=arguments.folder, output=arguments.output, device=arguments.device)
    if arguments.light:
        config = replace(config, network=Network(size="light"))
    if arguments.steps is not None:
        config = replace(config, schedule=replace(config.schedule, steps=arguments.steps))
    trained = run(config)
    bundle = str(trained.save(config.output)) if config.output and speaks() else None
    return trained.network(), bundle
