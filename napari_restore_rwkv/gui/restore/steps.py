"""The steps of a restoration as the panel runs them: load the network, restore into memory or into a file."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CheckpointError, OutputError
from ...progress import Progress
from ...tasks import TASKS
from ..layers import frame_of, source_of
from ..options import no_weights
from .stored_result import StoredResult

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...jobs.job import ZarrJob
    from ...scans.scan import Scan
    from ..options import RestoreOptions
    from .result import RestorationResult

CHECKING, COMPARING = "checking", "comparing"
# As deep as a chunk: whoever cancels loses three finished slices at most, where larger blocks would lose more.
SLICES_PER_UNIT = 4


def restoration_steps(
    options: RestoreOptions, result: RestorationResult, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Load the network and restore these slices of the result's scan into it, `first` first; see `restore`.

    The count is that of these slices. A region is what is to be seen anew. In steps that only check something, the
    words start with `CHECKING` or `COMPARING`.
    """
    network = load_network(options.weights, modified(options.weights))
    result.made_for = network.card.modality
    if not result.finished:
        proposed = options.strength
        result.propose(advice_strength(result, network) if proposed is None else proposed)
    if options.region == "volume" and isinstance(result, StoredResult):
        return (yield from _into_file(options, result, network, first))
    return (yield from _into_memory(options, result, network, indices, first))


def _into_memory(
    options: RestoreOptions, result: RestorationResult, network: Any, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    result.prepare()
    steps = run_restore(result, network, options, indices, first)
    started = time.monotonic()
    try:
        progress = next(steps)
        while True:
            if progress.region is not None:
                lasted = time.monotonic() - started
                result.seconds_per_slice = min(lasted, result.seconds_per_slice or lasted)
                result.take(progress.region)
                started = time.monotonic()
            displayed = yield progress
            progress = steps.send(displayed)
    except StopIteration as stop:
        result.tell(stop.value.metadata["restoration"])
        return stop.value
    finally:
        steps.close()


def _into_file(
    options: RestoreOptions, result: StoredResult, network: Any, first: int | None
) -> Generator[Progress, int | None, Scan]:
    from ...jobs import begun
    from ...jobs.audit import RESUME

    job = begin_job(result, network, options, first)
    steps = job.run()
    before = None
    try:
        progress = next(steps)
        while True:
            # Until the input is known to be the same, nothing may be shown of what is in the file.
            if before is None and not progress.what.startswith(COMPARING):
                saved = _saved_in(job.path)
                before = len(saved)
                result.open(job.path, saved)
                # Without the list the job is the same; it is only not offered for resuming.
                with suppress(OSError):
                    begun.remember(_begun(options, job.path))
            displayed = yield _relative(progress, result.take_from(job, progress), before or 0, result.slices)
            progress = steps.send(displayed)
    except StopIteration as stop:
        result.close(stop.value)
        begun.forget(job.path)
        return stop.value
    except OutputError as error:
        # The remedy is told for the command line; here there is a button.
        raise OutputError(str(error).replace(RESUME, "press Restore again")) from error
    finally:
        steps.close()


def _relative(progress: Progress, shown: Any, before: int, slices: int) -> Progress:
    """Count from what was there before; steps that check count something else, and say it in their words."""
    for checks, what in ((CHECKING, "what is saved"), (COMPARING, "the scan with what is saved")):
        if progress.what.startswith(checks):
            left = slices - before
            done = left if checks == CHECKING else 0
            return Progress(done, left, f"{checks} {what}: {progress.done + 1} of {progress.total}")
    return Progress(progress.done - before, progress.total - before, progress.what, shown)


def _saved_in(path: Path) -> list[int]:
    from ...jobs.ledger import Ledger

    ledger = Ledger(path)
    return [index for unit in ledger.done() for index in ledger.layout.slices(unit)]


def _begun(options: RestoreOptions, output: Path) -> Any:
    from ...jobs.begun import BegunJob

    return BegunJob(
        output=output,
        weights=options.weights if isinstance(options.weights, str) else options.weights.absolute(),
        input=source_of(options.layer),
        time_index=options.time_index if options.time_index is not None else frame_of(options.layer),
        device=options.device,
        any_modality=options.any_modality,
    )


@lru_cache(maxsize=1)
def load_network(weights: str | Path, modified: float | None) -> Any:
    """Return the network of a task or weights file, or a filter; the last one is kept, until its file changes."""
    from ...network.checkpoint import shipped_checkpoints
    from ...network.classical import load_restorer

    # Restore may be pressed before the form knows which weights there are.
    if weights in TASKS and weights not in shipped_checkpoints():
        raise CheckpointError(no_weights(TASKS[str(weights)]))
    return load_restorer(weights)


def fresh_network(weights: str | Path) -> Any:
    """Return a network that nobody else uses."""
    from ...network.classical import load_restorer

    return load_restorer(weights)


def run_restore(
    result: RestorationResult, network: Any, options: RestoreOptions, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Start `restore` with the person's choices, writing into the result."""
    from ...device import choose_device
    from ...restoration.restore import restore

    return restore(
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
    """Make the job for a file: a new one, or one that goes on where something of ours is; else `OutputError`."""
    from ...device import choose_device
    from ...jobs.audit import check_place
    from ...jobs.job import ZarrJob
    from ...jobs.ledger import Ledger

    assert options.output is not None, "a job goes into a file"
    path = options.output.absolute()
    ours = (path / "job").is_dir()
    check_place(path, resume=ours)
    if ours:
        # One strength for all of a file, whatever would be proposed by now.
        result.propose(Ledger(path).identity.get("strength", 1.0))
    return ZarrJob(
        result.scan,
        network,
        path,
        resume=ours,
        axis=options.axis,
        first=first,
        device=choose_device(options.device),
        any_modality=options.any_modality,
        strength=result.applied,
        slices_per_unit=SLICES_PER_UNIT,
    )


def advice_strength(result: RestorationResult, network: Any) -> float:
    """Return the strength that is proposed for a scan whose noise nobody has measured yet."""
    from ...restoration.noise import measured_noise
    from ...restoration.suitability import TRAINED_FOR, suitability

    if TRAINED_FOR not in network.card.details:
        return 1.0
    noise = measured_noise(result.scan, result.axis)
    return 1.0 if noise is None else suitability(noise, network.card).strength


def modified(weights: str | Path) -> float | None:
    """Return when a weights file was changed last, in seconds; None for what is shipped."""
    path = Path(weights)
    return path.stat().st_mtime if isinstance(weights, Path) and path.exists() else None
