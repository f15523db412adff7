"""A CUDA graph: a pass of a network that is captured once and replayed for every further batch of the same shape.

A pass consists of a thousand small launches, each queued by Python; a replay queues them all with one call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .machine import Machine


class CudaGraph:
    """Replays batches from a recording if there is one.

    Only one recording is kept, since each holds as much memory as a pass needs: another shape replaces it.

    Attributes
    ----------
    replays
        Number of batches that were replayed.
    why_not
        Why nothing is recorded (any more); "" as long as recording works.
    """

    def __init__(self, machine: Machine, stream: Any) -> None:
        self.replays = 0
        self.why_not = ""
        self._machine, self._stream = machine, stream
        self._shape: tuple[int, ...] = ()
        self._recording: tuple[Tensor, Callable[[], None], Tensor] | None = None

    def replay(self, batch: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return the network's result for a batch, valid until the next call; None if it has to be run as usual.

        It is None for the first batch of a shape, which thereby prepares everything that a recording relies on.
        """
        if self.why_not:
            return None
        if tuple(batch.shape) != self._shape:
            self.drop()
            self._shape = tuple(batch.shape)
            return None
        try:
            own, replay, result = self._recording or self._record(batch, network)
        except RuntimeError as error:
            # One failure is enough: some versions of PyTorch never free the memory of a failed recording.
            self.stop(f"the GPU could not record a pass ({' '.join(str(error).split())[:120]})")
            return None
        own.copy_(batch)
        replay()
        self.replays += 1
        return result

    def drop(self) -> None:
        """Drop the recording and free its memory."""
        self._recording, self._shape = None, ()

    def stop(self, why: str) -> None:
        """Drop the recording and make no further one."""
        self.drop()
        self.why_not = why

    def _record(self, batch: Tensor, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Callable[[], None], Tensor]:
        # The next batch arrives while this one is processed, so a recording has its own input.
        own = batch.clone()
        self._recording = (own, *self._machine.record(lambda: network(own), self._stream))
        return self._recording
