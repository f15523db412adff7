"""What long-running work reports between two steps, as values; the viewer and the command line put them into words."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


class Phase(Enum):
    """What the work is currently doing."""

    RESTORING = "restoring"
    """Slices go through the network; with a region once one is restored."""
    SHORT_OF_MEMORY = "short of memory"
    """The work continues with less memory; the detail says how."""
    COMPARING_PRECISION = "comparing precision"
    """A slice is also restored in float32, to measure the error of lower precision."""
    SAVED = "saved"
    """A slab of slices, the region, is on disk."""
    CONNECTED = "connected"
    """The workers of a cluster are known; the detail says how many, and gives the dashboard."""
    STAGING = "staging"
    """The input is compared with, or copied to, what the workers of a cluster see."""
    WORKERS_LOST = "workers lost"
    """Workers of a cluster were lost, and others take over; the detail says how many."""
    CHECKING = "checking"
    """What is on disk is compared with its digests."""
    COMPARING_INPUT = "comparing input"
    """The input is compared with what was restored from it before."""
    UNPACKING = "unpacking"
    """A compressed file, the detail, is unpacked."""
    EXAMINING = "examining"
    """Values are examined, to choose how they are stored."""
    WRITING = "writing"
    """Slices are written to files."""
    READING_BACK = "reading back"
    """What was written is read back and compared."""
    SIMULATING = "simulating"
    """Slices are degraded as an acquisition would."""
    MEASURING = "measuring"
    """Quality is measured; the detail says on what."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a job.

    Attributes
    ----------
    phase
        What is being done.
    done, total
        Slices (or training steps) finished and requested; ``0 <= done <= total``.
    region
        The voxels that were just finished, one index range per array axis in z, y, x order, ends exclusive; None while
        a slice is still in progress.
    detail
        Text to show with the phase, such as the name of a file; no code depends on it.
    """

    phase: Phase
    done: int
    total: int
    region: tuple[slice, slice, slice] | None = None
    detail: str = ""


class Run(Generic[Step, Result]):
    """Iterates a generator with ``for``, and keeps its return value.

    Attributes
    ----------
    result
        The return value of the generator, once it has ended.
    """

    def __init__(self, steps: Generator[Step, Any, Result]) -> None:
        self._steps = steps
        self.result: Result

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        try:
            return next(self._steps)
        except StopIteration as end:
            self.result = end.value
            raise StopIteration from None

    def close(self) -> None:
        """Close the generator."""
        self._steps.close()


def finish(steps: Generator[Any, Any, Result]) -> Result:
    """Run a job to its end without watching it, and return its result."""
    run = Run(steps)
    for _ in run:
        pass
    return run.result
