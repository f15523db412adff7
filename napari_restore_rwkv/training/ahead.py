"""Batches that are read ahead while the network computes."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .train import Batch, Batches

_STEPS_AHEAD = 3


class ReadAhead:
    """Batches of the next steps, read by threads; what a step gets depends only on its number.

    Parameters
    ----------
    batches
        Called in threads with the numbers of steps.
    readers
        Number of threads; 0 reads in the calling thread.

    Attributes
    ----------
    waited
        Seconds that steps waited for their batches.
    """

    def __init__(self, batches: Batches, readers: int) -> None:
        self._batches = batches
        self._pool = ThreadPoolExecutor(readers, "reads crops") if readers else None
        self._pending: dict[int, Future[Sequence[Batch]]] = {}
        self.waited = 0.0

    def __call__(self, step: int) -> Sequence[Batch]:
        """The batches of a step."""
        begun = time.monotonic()
        try:
            if self._pool is None:
                return self._batches(step)
            # What was read for other steps, before a resume, is no longer needed.
            self._pending = {number: future for number, future in self._pending.items() if number >= step}
            for number in range(step, step + 1 + _STEPS_AHEAD):
                if number not in self._pending:
                    self._pending[number] = self._pool.submit(self._batches, number)
            return self._pending.pop(step).result()
        finally:
            self.waited += time.monotonic() - begun

    def close(self) -> None:
        """Let the threads end; what they are reading is discarded."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
