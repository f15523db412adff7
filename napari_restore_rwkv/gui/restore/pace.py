"""How long a job will still take, estimated from the speed of its last slices."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 16


class Pace:
    """The time between the last finished slices.

    The first slice and what precedes it are not counted: loading the network and using it for the first time take
    several times as long as a slice. Old slices are dropped, because the load from other programs changes.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def note(self, done: int) -> None:
        """Note that this many slices are finished now."""
        if done and (not self._marks or done > self._marks[-1][0]):
            self._marks.append((done, self._clock()))

    def skip(self, seconds: float) -> None:
        """Exclude a pause that has just ended."""
        self._marks = deque(((done, at + seconds) for done, at in self._marks), maxlen=REMEMBERED)

    def seconds_left(self, total: int) -> float | None:
        """Return the time until this many slices are done; None while fewer than two are finished."""
        if len(self._marks) < 2:
            return None
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        return (ended - began) / (last - first) * (total - last)
