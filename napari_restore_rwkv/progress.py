"""What a long piece of work says between two steps."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a job.

    Attributes
    ----------
    done, total
        Slices (or training steps) finished and asked for; ``0 <= done <= total``.
    what
        The current step in words of the field, such as ``"slice 7 of 20"``.
    region
        The voxels that were just finished, one slice per array axis in z, y, x order with the end one past the last
        voxel; None while a slice is still being worked on.
    """

    done: int
    total: int
    what: str
    region: tuple[slice, slice, slice] | None = None


def finish(steps: Generator[Any, Any, Result]) -> Result:
    """Run a job to its end without watching it, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
