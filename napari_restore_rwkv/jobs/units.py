"""Units of a job: restored slice by slice, written as whole slabs, each with its line in the ledger."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from ..network.model import kernel_of
from ..progress import Progress
from ..restoration.slices import Plan, Working, restore_slices
from ..restoration.tiles import Tile
from ..scans.durable import told_in_words
from ..scans.intensity import IntensityRule
from ..scans.zarr_write import write_slab
from .audit import RESUME

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from .ledger import Ledger, LedgerWriter
    from .slabs import SlabQueue


def restore_units(
    ledger: Ledger,
    network: nn.Module,
    queue: SlabQueue,
    *,
    name: str = "",
    batch: int | None = None,
    tell: bool = True,
) -> Generator[Progress, None, None]:
    """Restore the units of a queue and save each with its line in the ledger.

    Parameters
    ----------
    ledger
        Of the output; says how to restore.
    network
        On the device to be used.
    queue
        Of units that nobody else is at work on.
    name
        Of the ledger's file that this process appends to, and no other.
    batch
        As for `restore`.
    tell
        Write down in the end how the work was done.

    Yields
    ------
    Progress
        In slices of the queue.
    """
    writer = _writer(ledger, name)
    tile = Tile(**ledger.record["tile"]) if "tile" in ledger.record else None
    identity = ledger.identity
    plan = Plan(
        IntensityRule(**identity["intensity"]),
        identity.get("noise"),
        identity["precision"],
        batch,
        tile,
        identity.get("strength", 1.0),
        identity["input"]["modality"],
    )
    steps = restore_slices(queue, network, plan)
    saved, total = 0, queue.total
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                how = end.value
                break
            done = saved + queue.slices_there()
            if isinstance(step, Working):
                yield Progress(done, total, step.note or f"slice {done + 1} of {total}")
                continue
            place = queue.came_back(step)
            for slab in queue.take_finished():
                with told_in_words(ledger.path.name, RESUME):
                    files = write_slab(ledger.path, ledger.layout, slab.unit, slab.result)
                    writer.add_unit(slab.unit, files, [slab.digests[index] for index in slab.slices])
                saved += len(slab.slices)
                what, region = f"unit {slab.unit} saved", ledger.layout.region(slab.unit)
                yield Progress(saved + queue.slices_there(), total, what, region)
            yield Progress(done + 1, total, f"slice {done + 1} of {total}", place)
    if not tell:
        return
    device = next(network.parameters(), torch.empty(0)).device
    # What concerns the result as a whole stands in the ledger already.
    here = {"device": str(device), "kernel": kernel_of(network, device)}
    with told_in_words(ledger.path.name, RESUME):
        writer.add_run(here | {key: value for key, value in how.items() if key not in ledger.record})


def _writer(ledger: Ledger, name: str) -> LedgerWriter:
    with told_in_words(ledger.path.name, RESUME):
        return ledger.writer(name)
