"""Units of a job: restored slice by slice, written as whole slabs, each with its line in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..progress import Progress
from ..restoration.restore import restore
from ..restoration.tiles import Tile
from ..scans.durable import told_in_words
from ..scans.intensity import IntensityRule
from ..scans.scan import AXES
from ..scans.zarr_write import write_slab
from .audit import RESUME

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ..scans.scan import Scan
    from .ledger import Ledger, LedgerWriter
    from .slabs import SlabQueue

# Where and how a process worked is told of each; what concerns the result as a whole is not its to tell.
_EACH = {"device", "kernel"}
_WHOLE = {"created", "slices", "input_sha256"}


def restore_units(
    ledger: Ledger,
    scan: Scan,
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
    scan
        The input.
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
    axis = ledger.layout.axis
    steps = restore(
        scan.with_voxels(queue.incoming, metadata={}),
        network,
        axis=AXES[axis],
        first=0,
        output=queue.outgoing,
        intensity=IntensityRule(**ledger.identity["intensity"]),
        any_modality=True,
        precision=ledger.identity["precision"],
        batch=batch,
        tile=Tile(**ledger.record["tile"]) if "tile" in ledger.record else None,
    )
    saved, total = 0, queue.incoming.shape[axis]
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                record = end.value.metadata["restoration"]
                break
            for slab in queue.take_finished():
                with told_in_words(ledger.path.name, RESUME):
                    files = write_slab(ledger.path, ledger.layout, slab.unit, slab.result)
                    writer.add_unit(slab.unit, files, [slab.digests[index] for index in slab.slices])
                saved += len(slab.slices)
                region = [slice(0, size) for size in ledger.layout.shape]
                region[axis] = slice(slab.slices.start, slab.slices.stop)
                yield Progress(saved + queue.slices_there(), total, f"unit {slab.unit} saved", _three(region))
            there = queue.region(progress.region[axis].start) if progress.region else None
            yield Progress(saved + queue.slices_there(), total, progress.what, there)
    finally:
        steps.close()
    if not tell:
        return
    with told_in_words(ledger.path.name, RESUME):
        known = ledger.record
        writer.add_run(
            {key: value for key, value in record.items() if key in _EACH or key not in known.keys() | _WHOLE}
        )


def _writer(ledger: Ledger, name: str) -> LedgerWriter:
    with told_in_words(ledger.path.name, RESUME):
        return ledger.writer(name)


def _three(region: list[slice]) -> tuple[slice, slice, slice]:
    return region[0], region[1], region[2]
