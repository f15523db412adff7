"""How long a job will still take, from how fast its last slices came."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 16


class Pace:
    """The time between the slices that were finished last.

    What comes before the first slice is not counted, nor is that slice: loading the network and its first use take
    several times as long as a slice. What other programs leave of the machine changes, so old slices are forgotten.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def note(self, done: int) -> None:
        """Take note that so many slices are finished by now."""
        if done and (not self._marks or done > self._marks[-1][0]):
            self._marks.append((done, self._clock()))

    def skip(self, seconds: float) -> None:
        """Leave out a pause that has just ended."""
        self._marks = deque(((done, at + seconds) for done, at in self._marks), maxlen=REMEMBERED)

    def seconds_left(self, total: int) -> float | None:
        """Return the time until so many slices are done; None before there are two to measure between."""
        if len(self._marks) < 2:
            return None
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        return (ended - began) / (last - first) * (total - last)
