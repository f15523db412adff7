"""A job on a cluster of processes, through dask.distributed (the extra ``cluster``).

The coordinator holds the lock, makes the output and decides the order; workers restore one slab at a time by the same
function as everywhere, and answer when its line in the ledger is on the disk. The scheduler may forget everything.
Input, weights and output are files that all workers see under the same names.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ..device import choose_device
from ..errors import DeviceError, OutputError
from ..network.classical import load_restorer
from ..progress import Phase, Progress, finish
from ..restoration.context import uses_context
from ..scans.opening import open_scan
from ..scans.zarr_write import remove_leftovers
from .identity import computation_identity, differences
from .job import JobOptions, ZarrJob
from .ledger import Ledger
from .restore_slabs import restore_slabs
from .slabs import SlabQueue, nearest_slab

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import nn

    from ..scans.scan import Scan

# Enough for each worker to have its next slab at hand, and few enough to follow a display.
_UNITS_PER_WORKER = 2
_PATIENCE = "30s"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a worker finds what it needs.

    Attributes
    ----------
    path, modality, time_index, channel, series, correct_tilt, allow_outside_files
        The input, as for `open_scan`.
    weights
        A task with shipped weights, or a file.
    device
        As for `choose_device`.
    batch
        As for `restore`.
    """

    path: str
    weights: str
    modality: str | None = None
    time_index: int | None = None
    channel: int | None = None
    series: str | None = None
    correct_tilt: bool = False
    allow_outside_files: bool = False
    device: str = "auto"
    batch: int | None = None


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

    def _restore(
        self, ledger: Ledger, slabs: Sequence[int], todo: Sequence[int]
    ) -> Generator[Progress, int | None, None]:
        """Hand out slabs, those nearest to the display first."""
        waiting, done = set(todo), self._slices(set(slabs) - set(todo))
        total = self._slices(slabs)
        output = str(self.path.resolve())
        with _connected(self._address) as client:
            from distributed import as_completed

            workers = max(1, len(client.scheduler_info()["workers"]))
            about = f"{workers} workers, dashboard at {client.dashboard_link}"
            yield Progress(Phase.CONNECTED, done, total, detail=about)
            flying = as_completed()

            def hand_out() -> None:
                slab = nearest_slab(self.layout, waiting, self._displayed)
                waiting.remove(slab)
                # Not pure: a slab that has to be done again is not the one in the scheduler's memory.
                flying.add(client.submit(restore_slab, self._source, output, slab, pure=False))

            for _ in range(min(len(waiting), _UNITS_PER_WORKER * workers)):
                hand_out()
            for future in flying:
                slab = self._result(future)
                future.release()
                done += len(self.layout.slices(slab))
                sent = yield Progress(Phase.SAVED, done, total, self.layout.region(slab))
                self._displayed = self._displayed if sent is None else sent
                if waiting:
                    hand_out()
        how = {"device": ledger.record["device"], "kernel": ledger.record["kernel"]}
        ledger.writer().add_run({**how, "execution": {"workers": workers}})

    def _result(self, future: Any) -> int:
        """Return the number of a finished slab; DeviceError where the scheduler or the workers are gone."""
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            return int(future.result())
        # What the scheduler forgets is cancelled; an error of our own function comes through as it is.
        except (CommClosedError, KilledWorker, CancelledError, TimeoutError) as error:
            raise DeviceError(
                f"The scheduler at {self._address} or its workers have ended ({type(error).__name__}). What is "
                "finished is kept",
                "start them again",
                resumable=True,
            ) from error


def restore_slab(source: Source, output: str, slab: int) -> int:
    """Restore one slab in this process, unless it has its line already; return its number once the line is durable."""
    ledger = Ledger(Path(output))
    # Without its files a slab has no line, and reading the ledger for each slab would add up.
    there = all((ledger.path / name).exists() for name in ledger.layout.files(slab))
    if there and slab in ledger.done():
        return slab
    scan, network = _opened(source)
    _refuse_another_machine(ledger, network)
    remove_leftovers(ledger.path, ledger.layout, [slab])
    name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    queue = SlabQueue(scan, ledger.layout, [slab], neighbours=uses_context(network))
    finish(restore_slabs(ledger, network, queue, name=name, batch=source.batch, tell=False))
    return slab


@lru_cache(maxsize=1)
def _opened(source: Source) -> tuple[Scan, nn.Module]:
    """Open input and weights once for all slabs that this process gets."""
    scan = open_scan(
        source.path,
        modality=source.modality,
        time_index=source.time_index,
        channel=source.channel,
        series=source.series,
        correct_tilt=source.correct_tilt,
        allow_outside_files=source.allow_outside_files,
        large=0,
    )
    return scan, load_restorer(source.weights).to(choose_device(source.device))


def _refuse_another_machine(ledger: Ledger, network: nn.Module) -> None:
    """Refuse to mix results of weights, kernels or versions that differ."""
    now = computation_identity(network, ledger.identity["precision"])
    found = differences({key: ledger.identity[key] for key in now}, now)
    if found:
        raise OutputError(
            f"A worker on {socket.gethostname()} differs from the coordinator ({'; '.join(found)}): use workers with "
            "the same program, weights and kind of device."
        )


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DeviceError(
            "A scheduler needs dask.distributed, which is not installed: pip install 'napari-restore-rwkv[cluster]'."
        ) from error
    try:
        client = Client(address, timeout=_PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        raise DeviceError(f"There is no dask scheduler at {address}; start one, or correct the address.") from error
    with client:
        yield client
