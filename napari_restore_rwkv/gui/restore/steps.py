"""The steps of a restoration in the panel: load the network, and restore into memory or into a file."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cancellation import end_if_cancelled
from ...errors import CheckpointError
from ...progress import Phase, Progress
from ...tasks import TASKS
from ..layers import choice_of, source_of
from ..surroundings import no_weights
from ..wording import CHECKS
from .stored_result import StoredResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...jobs.cluster import Source
    from ...jobs.job import JobOptions, ZarrJob
    from ...scans.scan import Scan
    from ..options import RestoreOptions
    from .result import RestorationResult

# As deep as a chunk: cancelling loses at most three finished slices; deeper slabs would lose more.
SLICES_PER_SLAB = 4
# A worker finishes the slab that it has started, and every slab costs a message to the scheduler.
SLICES_PER_SLAB_OF_A_WORKER = 8


def restoration_steps(
    options: RestoreOptions, result: RestorationResult, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Load the network and restore these slices of the result's scan into the result; see `iter_restore`.

    Progress counts these slices; its region is to be redrawn. In steps that only check something, its detail counts
    what is checked.
    """
    network = load_network(options.weights, modified(options.weights))
    result.made_for = network.card.modality
    if not result.finished:
        proposed = options.strength
        result.propose(advice_strength(result, network) if proposed is None else proposed)
    end_if_cancelled()
    work: _IntoFile | _IntoMemory
    if options.region == "volume" and isinstance(result, StoredResult):
        work = _IntoFile(options, result, network, first)
    else:
        work = _IntoMemory(options, result, network, indices, first)
    try:
        progress = next(work.steps)
        while True:
            displayed = yield work.take(progress)
            progress = work.steps.send(displayed)
    except StopIteration as stop:
        work.finish(stop.value)
        return stop.value
    finally:
        work.steps.close()


class _IntoMemory:
    """Adds restored slices to a result in memory."""

    def __init__(
        self, options: RestoreOptions, result: RestorationResult, network: Any, indices: list[int], first: int | None
    ) -> None:
        result.prepare()
        self._result = result
        self.steps = run_restore(result, network, options, indices, first)
        self._started = time.monotonic()

    def take(self, progress: Progress) -> Progress:
        """Add the slice of a step to the result."""
        if progress.region is not None:
            lasted, known = time.monotonic() - self._started, self._result.seconds_per_slice
            self._result.seconds_per_slice = min(lasted, known or lasted)
            self._result.take(progress.region)
            self._started = time.monotonic()
        return progress

    def finish(self, restored: Scan) -> None:
        """Keep the provenance."""
        self._result.set_provenance(restored.metadata["restoration"])


class _IntoFile:
    """Follows a job that writes into a file, which may have been started earlier."""

    def __init__(self, options: RestoreOptions, result: StoredResult, network: Any, first: int | None) -> None:
        self._options, self._result = options, result
        self._job = begin_job(result, network, options, first)
        self._before: int | None = None
        self.steps = self._job.run()

    def take(self, progress: Progress) -> Progress:
        """Add the slices of a step to the result, and count from what was saved before."""
        # Nothing from the file may be shown until the input is known to be the same.
        if self._before is None and progress.phase not in (Phase.COMPARING_INPUT, Phase.STAGING):
            self._open()
        before = self._before or 0
        shown = self._result.take_from(self._job, progress)
        if progress.phase in CHECKS:
            left = self._result.slices - before
            done = left if progress.phase is Phase.CHECKING else 0
            return Progress(progress.phase, done, left, detail=f"{progress.done + 1} of {progress.total}")
        return replace(progress, done=progress.done - before, total=progress.total - before, region=shown)

    def finish(self, restored: Scan) -> None:
        """Keep the provenance, and remove the job from the list of unfinished ones."""
        from ...jobs import registry

        self._result.close(restored)
        registry.forget(self._job.path)

    def _open(self) -> None:
        from ...jobs import registry

        saved = _saved_in(self._job.path)
        self._before = len(saved)
        self._result.open(self._job.path, saved)
        # If the list cannot be written, the job only cannot be offered for resuming.
        with suppress(OSError):
            registry.remember(_begun(self._options, self._job.path))


def _saved_in(path: Path) -> list[int]:
    from ...jobs.ledger import Ledger

    ledger = Ledger(path)
    return [index for slab in ledger.done() for index in ledger.layout.slices(slab)]


def _begun(options: RestoreOptions, output: Path) -> Any:
    from ...jobs.registry import BegunJob

    return BegunJob(
        output=output,
        weights=options.weights if isinstance(options.weights, str) else options.weights.absolute(),
        input=source_of(options.layer),
        **choice_of(options.layer, options.time_index),
        device=options.device,
        any_modality=options.any_modality,
    )


@lru_cache(maxsize=1)
def load_network(weights: str | Path, modified: float | None) -> Any:
    """Return the network of a task or a weights file, or a filter; the last one is cached until its file changes."""
    from ...network.checkpoint import shipped_checkpoints
    from ...network.classical import load_restorer

    # The form offers the weights of a task before it is known whether they exist.
    if weights in TASKS and weights not in shipped_checkpoints():
        raise CheckpointError(no_weights(TASKS[str(weights)]))
    return load_restorer(weights)


def run_restore(
    result: RestorationResult, network: Any, options: RestoreOptions, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Start `iter_restore` with the options, writing into the result."""
    from ...device import choose_device
    from ...restoration.restore import iter_restore

    return iter_restore(
        result.scan,
        network,
        axis=options.axis,
        indices=indices,
        first=first,
        output=result.target,
        dtype=np.float32,
        device=choose_device(options.device),
        any_modality=options.any_modality,
        strength=result.applied,
    )


def begin_job(result: RestorationResult, network: Any, options: RestoreOptions, first: int | None) -> ZarrJob:
    """Return the job for a file, here or on a cluster: a new one, or the continuation of an unfinished one."""
    from ...device import choose_device
    from ...jobs.audit import check_place
    from ...jobs.job import ZarrJob
    from ...jobs.ledger import Ledger

    assert options.output is not None, "a job goes into a file"
    path = options.output.absolute()
    ours = (path / "job").is_dir()
    check_place(path, resume=ours)
    if ours:
        # A file has one strength, even if another one would be proposed now.
        result.propose(Ledger(path).identity.get("strength", 1.0))
    how: JobOptions = {
        "resume": ours,
        "axis": options.axis,
        "first": first,
        "device": choose_device(options.device),
        "any_modality": options.any_modality,
        "strength": result.applied,
        "slices_per_slab": SLICES_PER_SLAB if options.scheduler is None else SLICES_PER_SLAB_OF_A_WORKER,
    }
    if options.scheduler is None:
        return ZarrJob(result.scan, network, path, **how)
    from ...jobs.staged_cluster_job import StagedClusterJob

    return StagedClusterJob(options.scheduler, _source(options, result), result.scan, network, path, **how)


def _source(options: RestoreOptions, result: RestorationResult) -> Source:
    """Return where the workers of a cluster find the weights, and the scan, if it is a file."""
    from ...jobs.cluster import Source
    from ...scans.options import OpenOptions

    file = source_of(options.layer)
    weights = options.weights if isinstance(options.weights, str) else str(options.weights.absolute())
    return Source(
        "" if file is None else str(file),
        weights,
        OpenOptions(modality=result.scan.modality, **choice_of(options.layer, options.time_index)),
        device=options.device,
    )


def advice_strength(result: RestorationResult, network: Any) -> float:
    """Return the proposed strength for a scan whose noise has not been measured yet."""
    from ...restoration.noise import measured_noise
    from ...restoration.suitability import TRAINED_FOR, suitability

    if TRAINED_FOR not in network.card.details:
        return 1.0
    noise = measured_noise(result.scan, result.axis)
    return 1.0 if noise is None else suitability(noise, network.card).strength


def modified(weights: str | Path) -> float | None:
    """Return when a weights file was last modified, in seconds; None for shipped weights."""
    path = Path(weights)
    return path.stat().st_mtime if isinstance(weights, Path) and path.exists() else None
