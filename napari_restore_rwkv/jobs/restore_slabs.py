"""The slabs of a job: restored slice by slice, written as a whole, each recorded in the ledger."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..network.restorer import device_of, kernel_of
from ..progress import Phase, Progress, Run
from ..restoration.intensity import IntensityRule
from ..restoration.slices import Plan, Working, restore_slices
from ..restoration.tiles import Tile
from ..scans.zarr.writing import write_slab
from ..storage.durable import writing_errors

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from .ledger import Ledger, LedgerWriter
    from .slabs import SlabQueue


def restore_slabs(
    ledger: Ledger,
    network: nn.Module,
    queue: SlabQueue,
    *,
    name: str = "",
    batch: int | None = None,
    tell: bool = True,
    before: int = 0,
    total: int | None = None,
) -> Generator[Progress, int | None, None]:
    """Restore the slabs of a queue, save each and record it in the ledger.

    Parameters
    ----------
    ledger
        Of the output; says how to restore.
    network
        On the device to be used.
    queue
        Of slabs that no other process is working on.
    name
        Of the ledger file that only this process appends to.
    batch
        As for `restore`.
    tell
        Record at the end how the work was done.
    before, total
        Slices of the job that were finished earlier, and in total; None for those of the queue.

    Yields
    ------
    Progress
        In slices of the job; ``send(i)`` says that slice i is now on screen.
    """
    writer = _writer(ledger, name)
    steps = Run(restore_slices(queue, network, plan_of(ledger, batch)))
    saved, total = before, before + queue.total if total is None else total
    with contextlib.closing(steps):
        for step in steps:
            done = saved + queue.restored_slices()
            if isinstance(step, Working):
                news = [Progress(step.phase, done, total, detail=step.note)]
            else:
                news = [Progress(Phase.RESTORING, done + 1, total, queue.add_restored(step))]
                for slab in queue.take_finished():
                    with writing_errors(ledger.path.name):
                        files = write_slab(ledger.path, ledger.layout, slab.number, slab.result)
                        writer.add_slab(slab.number, files, [slab.digests[index] for index in slab.slices])
                    saved += len(slab.slices)
                    news.insert(0, Progress(Phase.SAVED, done + 1, total, ledger.layout.region(slab.number)))
            for progress in news:
                displayed = yield progress
                if displayed is not None:
                    queue.show(displayed)
    if not tell:
        return
    device = device_of(network)
    # What concerns the result as a whole is already in the ledger.
    here = {"device": str(device), "kernel": kernel_of(network, device)}
    with writing_errors(ledger.path.name):
        writer.add_run(here | {key: value for key, value in steps.result.items() if key not in ledger.record})


def plan_of(ledger: Ledger, batch: int | None) -> Plan:
    """Return how the slices of an output are restored, as decided when it was started."""
    identity = ledger.identity
    return Plan(
        IntensityRule(**identity["intensity"]),
        identity.get("noise"),
        identity["precision"],
        batch,
        Tile(**identity["tile"]) if "tile" in identity else None,
        identity.get("strength", 1.0),
        identity["input"]["modality"],
    )


def _writer(ledger: Ledger, name: str) -> LedgerWriter:
    with writing_errors(ledger.path.name):
        return ledger.writer(name)
