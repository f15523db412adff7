"""A job on a cluster of processes, through dask.distributed (the extra ``cluster``).

The coordinator holds the lock, creates the output and decides the order; workers restore one slab at a time with the
same function as everywhere, and reply when its ledger line is on disk. Nothing depends on the scheduler's memory.
Input, weights and output are files that all workers see under the same names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from ..device import choose_device
from ..errors import OutputError
from ..network.classical import load_restorer
from ..progress import Phase, Progress, finish
from ..restoration.context import uses_context
from ..restoration.output import as_dtype
from ..restoration.plan import region_of
from ..restoration.slices import Restored, restore_slices
from ..restoration.source import ScanSource
from ..scans.opening import DEFAULT, opening
from ..scans.zarr.writing import remove_leftovers
from .identity import computation_identity, differences
from .job import JobOptions, ZarrJob
from .ledger import Ledger
from .restore_slabs import plan_of, restore_slabs
from .scheduler import connected, counted, ended, refuse_hidden_files, wind_down, workers_of
from .slabs import SlabQueue, nearest_slab

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from torch import nn

    from ..scans.options import OpenOptions
    from ..scans.scan import Scan

# Enough for each worker to have its next slab ready, and few enough to follow the display.
_SLABS_PER_WORKER = 2
_LOOKS_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Source:
    """Where a worker finds what it needs.

    Attributes
    ----------
    path, reading
        The input, and how it is opened; whatever `reading` says about sizes, it is not read before slices are needed.
    weights
        A task with shipped weights, or a file.
    device
        As for `choose_device`.
    batch
        As for `restore`.
    """

    path: str
    weights: str
    reading: OpenOptions = DEFAULT
    device: str = "auto"
    batch: int | None = None

    def open(self) -> Scan:
        """Open the input, unread."""
        return finish(opening(self.path, replace(self.reading, large=0)))


class ClusterJob(ZarrJob):
    """A `ZarrJob` whose slabs are restored by the workers of a scheduler.

    Parameters
    ----------
    address
        Of the scheduler, such as "tcp://10.0.0.1:8786".
    source
        What the scan and the network were opened from, for the workers.
    scan, network, path, options
        As for `ZarrJob`, without `part`.
    """

    def __init__(
        self,
        address: str,
        source: Source,
        scan: Scan,
        network: nn.Module,
        path: str | Path,
        **options: Unpack[JobOptions],
    ) -> None:
        super().__init__(scan, network, path, **options)
        self._address, self._source = address, source
        self._shown: dict[int, np.ndarray] = {}

    def _restore(
        self, ledger: Ledger, slabs: Sequence[int], todo: Sequence[int]
    ) -> Generator[Progress, int | None, None]:
        """Submit slabs, those nearest to the display first."""
        waiting, done = set(todo), self._slices(set(slabs) - set(todo))
        total = self._slices(slabs)
        output = str(self.path.resolve())
        weights = self._source.weights
        files = [self._source.path, output, *([weights] if Path(weights).is_file() else [])]
        with connected(self._address) as client:
            workers = workers_of(client, self._address)
            about = f"{counted(len(workers), 'worker')}, dashboard at {client.dashboard_link}"
            yield Progress(Phase.CONNECTED, done, total, detail=about)
            refuse_hidden_files(client, files)
            in_flight: set[Any] = set()
            shown = self._shown_first(client, output, waiting)
            try:
                in_flight.update(shown)
                while waiting or in_flight:
                    while waiting and len(in_flight) < _SLABS_PER_WORKER * max(1, len(workers)):
                        slab = nearest_slab(self.layout, waiting, self._displayed)
                        waiting.remove(slab)
                        # Not pure: a slab that has to be redone must not be answered from the scheduler's memory.
                        in_flight.add(client.submit(restore_slab, self._source, output, slab, pure=False))
                    for future in _finished(client, in_flight):
                        in_flight.remove(future)
                        result = self._result(future)
                        future.release()
                        if future in shown:
                            self._shown[shown[future]] = result
                            region = region_of(self._scan, self.layout.axis, shown[future])
                            yield from self._report(Progress(Phase.RESTORING, done, total, region))
                            continue
                        slab = int(result)
                        done += len(self.layout.slices(slab))
                        yield from self._report(Progress(Phase.SAVED, done, total, self.layout.region(slab)))
                    before, workers = workers, workers_of(client, self._address)
                    yield from self._report(_state(before, workers, done, total))
            finally:
                if in_flight:
                    wind_down(client, in_flight, output, slabs_under_way)
        how = {"device": ledger.record["device"], "kernel": ledger.record["kernel"]}
        ledger.writer().add_run({**how, "execution": {"workers": len(workers)}})

    def _shown_first(self, client: Any, output: str, slabs: Collection[int]) -> dict[Any, int]:
        """Have the slice on screen restored alone, without waiting for its slab; return its future and its index."""
        index = self._first
        if index is None or not any(index in self.layout.slices(slab) for slab in slabs):
            return {}
        return {client.submit(restore_shown, self._source, output, index, pure=False): index}

    def _overlay(self, box: tuple[slice, ...], voxels: np.ndarray) -> None:
        """Copy the slice that was restored alone into the voxels of that box of the output."""
        axis = self.layout.axis
        for index, image in self._shown.items():
            if box[axis].start <= index < box[axis].stop:
                within = tuple(along for at, along in enumerate(box) if at != axis)
                np.moveaxis(voxels, axis, 0)[index - box[axis].start] = image[within]

    def _report(self, progress: Progress) -> Generator[Progress, int | None, None]:
        """Yield a step, and receive which slice is on screen."""
        sent = yield progress
        self._displayed = self._displayed if sent is None else sent

    def _result(self, future: Any) -> Any:
        """Return a worker's answer; DeviceError if the scheduler or the workers are gone."""
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            return future.result()
        # A task that the scheduler lost is cancelled; an error of our own function comes through unchanged.
        except (CommClosedError, KilledWorker, CancelledError, TimeoutError) as error:
            raise ended(self._address, error) from error


def _finished(client: Any, in_flight: set[Any]) -> list[Any]:
    """Wait for slabs to finish, and return those that have; only briefly, so that the job can be stopped."""
    from distributed import wait

    with contextlib.suppress(TimeoutError, CancelledError), client.as_current():
        wait(list(in_flight), timeout=_LOOKS_EVERY_S, return_when="FIRST_COMPLETED")
    return [future for future in in_flight if future.done()]


def _state(before: set[str], now: set[str], done: int, total: int) -> Progress:
    """Report workers lost since the last check, if any."""
    if lost := before - now:
        detail = f"{len(lost)} of {len(before)} workers lost; the others take over what they had"
        return Progress(Phase.WORKERS_LOST, done, total, detail=detail)
    return Progress(Phase.RESTORING, done, total)


# Outputs that this process is currently writing slabs of, one entry per slab.
_under_way: list[str] = []


def slabs_under_way(output: str) -> int:
    """Return how many slabs of an output this process is restoring now."""
    return _under_way.count(output)


def restore_slab(source: Source, output: str, slab: int) -> int:
    """Restore one slab in this process, unless the ledger has it; return its number once its line is durable."""
    _under_way.append(output)
    try:
        return _restore_slab(source, output, slab)
    finally:
        _under_way.remove(output)


def _restore_slab(source: Source, output: str, slab: int) -> int:
    ledger = Ledger(Path(output))
    # A slab without files has no line, and reading the ledger for each slab would add up.
    there = all((ledger.path / name).exists() for name in ledger.layout.files(slab))
    if there and slab in ledger.done():
        return slab
    scan, network = _opened(source)
    _refuse_another_machine(ledger, source)
    remove_leftovers(ledger.path, ledger.layout, [slab])
    name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    queue = SlabQueue(scan, ledger.layout, [slab], neighbours=uses_context(network))
    finish(restore_slabs(ledger, network, queue, name=name, batch=source.batch, tell=False))
    return slab


def restore_shown(source: Source, output: str, index: int) -> np.ndarray:
    """Restore one slice in this process, and return its voxels (Y, X) as they will be in the output; writes nothing."""
    ledger = Ledger(Path(output))
    scan, network = _opened(source)
    _refuse_another_machine(ledger, source)
    alone = ScanSource(scan, ledger.layout.axis, [index], neighbours=uses_context(network))
    steps = restore_slices(alone, network, plan_of(ledger, source.batch))
    [one] = [step for step in steps if isinstance(step, Restored)]
    return as_dtype(one.values, one.image, np.dtype(ledger.layout.dtype))


@lru_cache(maxsize=1)
def _opened(source: Source) -> tuple[Scan, nn.Module]:
    """Open input and weights once for all slabs of this process."""
    return source.open(), load_restorer(source.weights).to(choose_device(source.device))


@lru_cache(maxsize=1)
def _identity(source: Source, precision: str) -> dict[str, Any]:
    return computation_identity(_opened(source)[1], precision)


def _refuse_another_machine(ledger: Ledger, source: Source) -> None:
    """Refuse to mix results of weights, kernels or versions that differ."""
    now = _identity(source, ledger.identity["precision"])
    found = differences({key: ledger.identity[key] for key in now}, now)
    if found:
        raise OutputError(
            f"A worker on {socket.gethostname()} differs from the coordinator ({'; '.join(found)}): use workers with "
            "the same program, weights and kind of device."
        )
