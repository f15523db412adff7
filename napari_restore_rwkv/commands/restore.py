"""``restore-rwkv restore``: a scan into a file or an OME-Zarr folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError
from ..jobs.audit import check_place
from ..jobs.ledger import Ledger
from ..scans.export import check_large, export_scan
from ..scans.files import write_scan
from ..scans.volume.files import volume_suffix
from ..scans.zarr.reading import is_zarr
from ..storage.temporary import TemporaryFolder
from .outputs import check_output, check_space
from .preparing import check_weights, fits_in_memory, open_input, prepare, result_type
from .restore_folder import ZARR_SUFFIX, restore_folder
from .scans_below import scans_below
from .terminal import watch
from .unchanged import InputWatch

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ..progress import Progress
    from ..scans.scan import Scan
    from .preparing import Setup
    from .requests import Answer, RestoreRequest


def restore_command(request: RestoreRequest) -> Answer:
    """Restore a scan into a file or an OME-Zarr folder, or a folder of scans into another folder."""
    source, output = request.input, request.output
    if output.name.lower().endswith(".zarr"):
        return _restore_to_zarr(request)
    if source.is_dir() and not volume_suffix(output) and not is_zarr(source) and not request.reading.series:
        scans, left_out = scans_below(source)
        if scans:
            return restore_folder(request, scans, left_out, restore_command)
    only_zarr = [name for name in ("resume", "part", "scheduler") if getattr(request, name)]
    if only_zarr:
        raise OutputError(
            f"--{only_zarr[0]} is for results in OME-Zarr and for folders of scans: "
            f"give an OUTPUT ending in {ZARR_SUFFIX}."
        )
    return _restore_file(request)


def _restore_file(request: RestoreRequest) -> Answer:
    """Restore INPUT into a file; anything that can be refused is refused before the work starts."""
    output = request.output
    check_output(output, request.input, request.overwrite)
    check_weights(request.checkpoint)
    state = InputWatch(request.input, request.reading)
    scan = open_input(request.input, request.reading)
    large = not fits_in_memory(scan)
    if not large:
        scan = scan.load()
    dtype = result_type(scan, request.dtype)
    if large:
        check_large(scan.shape, output)
    size = int(np.prod(scan.shape, dtype=np.int64)) * dtype.itemsize
    # A large result is on disk twice for a while.
    check_space(output, 2 * size if large else size)
    setup = prepare(request, scan, dtype)
    start = time.perf_counter()
    restored = (_restored_piecewise if large else _restored)(scan, setup, output, request.overwrite, state)
    record = restored.metadata["restoration"]
    slices = record["slices"]
    values, end = setup.described(output, slices, time.perf_counter() - start, record)
    return values | {"intensity": record["intensity"]}, f"{output}: {slices} slices restored {end}", 0


def _restored(scan: Scan, setup: Setup, output: Path, overwrite: bool, state: InputWatch) -> Scan:
    from ..restoration.restore import iter_restore

    restored = watch(iter_restore(scan, setup.network, **setup.options))
    state.check_restored(scan)
    write_scan(restored, output, overwrite=overwrite)
    return restored


def _restored_piecewise(scan: Scan, setup: Setup, output: Path, overwrite: bool, state: InputWatch) -> Scan:
    """Restore a scan larger than memory first into a zarr beside the output, and write that to the file."""
    from ..jobs.job import restore_to_zarr

    with TemporaryFolder(output.parent) as folder:
        place = folder / f"restored{ZARR_SUFFIX}"
        try:
            restored = watch(restore_to_zarr(scan, setup.network, place, **setup.options))
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"nothing was written; a job with an OUTPUT ending in {ZARR_SUFFIX} can be continued"
            ) from stop
        state.check_restored(scan)
        watch(export_scan(restored, output, overwrite=overwrite))
    return restored


def _restore_to_zarr(request: RestoreRequest) -> Answer:
    output, part = request.output, request.part
    resume = request.resume or part is not None
    if request.overwrite:
        raise OutputError("--overwrite only replaces files: remove the OME-Zarr folder yourself, or give another name.")
    if request.scheduler and part:
        raise OutputError("--scheduler and --part are two ways to divide the work: give only one of them.")
    check_place(output, resume)
    check_weights(request.checkpoint)
    scan = open_input(request.input, request.reading)
    setup = prepare(request, scan, result_type(scan, request.dtype))

    from ..jobs.job import ZarrJob

    if request.scheduler:
        from ..jobs.cluster import ClusterJob, Source

        source = Source(
            str(request.input.resolve()),
            setup.name,
            request.reading,
            device=request.device,
            batch=request.batch,
        )
        job: ZarrJob = ClusterJob(
            request.scheduler, source, scan, setup.network, output, resume=resume, **setup.options
        )
    else:
        job = ZarrJob(scan, setup.network, output, resume=resume, part=part, **setup.options)
    start = time.perf_counter()
    record = _watched(job.run(), output).metadata.get("restoration")
    values, end = setup.described(output, job.slices, time.perf_counter() - start, record)
    more = {
        "units": job.layout.slabs,
        "part": None if part is None else list(part),
        "complete": record is not None,
    }
    done = f"part {part[0]} of {part[1]} is done" if part and not record else "complete"
    return values | more, f"{output}: {done}, {job.slices} slices {end}", 0


def _watched(steps: Generator[Progress, int | None, Scan], output: Path) -> Scan:
    """Run a job; if it is stopped, say how to continue."""
    try:
        return watch(steps)
    except KeyboardInterrupt as stop:
        if not output.exists():
            raise
        ledger = Ledger(output)
        raise KeyboardInterrupt(
            f"{len(ledger.done())} of {ledger.layout.slabs} slabs are done; continue with the same command and --resume"
        ) from stop
