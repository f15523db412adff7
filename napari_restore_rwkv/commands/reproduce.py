"""The work behind ``restore-rwkv reproduce paper``: train as the paper does, or load weights, and measure them."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..progress import Run
from .new_weights import save_weights
from .train import run, writes_results

if TYPE_CHECKING:
    from ..network.model import RestoreRWKV
    from .requests import Answer, ReproduceRequest


def reproduce_paper(request: ReproduceRequest) -> Answer:
    """Reproduce the paper's table; return values for ``--json``, text, and the exit code."""
    from ..device import choose_device
    from ..training.paper import paper_source, paper_tasks
    from ..training.reproduction import measure, table

    # Anything missing for the end is reported before days of training.
    for task in paper_tasks(request.task):
        paper_source(request.data, task, "test")
    network, bundle = _network(request)
    if not writes_results():
        return {"measured": []}, "The first process measures.", 0
    network = network.to(choose_device(request.device))
    with (
        tqdm(unit="slice", file=sys.stderr, disable=not sys.stderr.isatty()) as bar,
        closing(Run(measure(network, request.data, request.task))) as steps,
    ):
        for task in steps:
            bar.set_description(task, refresh=False)
            bar.update()
    measured = steps.result
    values = {"bundle": bundle, "measured": [one.as_dict() for one in measured]}
    return values, "\n".join([table(measured), *([f"Written to {bundle}"] if bundle else [])]), 0


def _network(request: ReproduceRequest) -> tuple[RestoreRWKV, str | None]:
    """The network to measure, fused, and the bundle written from it."""
    if request.checkpoint is not None:
        from ..network.checkpoint import load_checkpoint

        return load_checkpoint(request.checkpoint), None
    from ..training.config import Network
    from ..training.paper import paper_config

    config = paper_config(request.data, request.task)
    config = replace(config, folder=request.folder, output=request.output, device=request.device)
    if request.light:
        config = replace(config, network=Network(size="light"))
    if request.steps is not None:
        config = replace(config, schedule=replace(config.schedule, steps=request.steps))
    trained = run(config)
    output = config.output
    bundle = save_weights(trained.save, output) if output and writes_results() else None
    return trained.network(), None if bundle is None else str(bundle)
