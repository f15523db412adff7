"""Batches of images through a network: transfers beside the computing, and less at a time where memory runs short.

While a GPU works on one batch, the next is sent to it and the last one comes back. A processor takes one image after
the other.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from ..errors import DeviceError
from ..network.bi_wkv import kernel_in_use
from ..network.model import RestoreRWKV
from ..network.non_local_means import NonLocalMeans
from ..threads import let_idle_threads_sleep
from .budget import bytes_per_slice, slices_at_once
from .recorder import Recorder
from .slots import Slot, Streams
from .tiles import in_tiles

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    from torch import Tensor, nn

    from .machine import Machine
    from .tiles import Tile

# How the libraries below PyTorch say that memory is short; they have no error class for it.
_SHORT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")


class Executor:
    """Runs images of one shape through a network; a context that gives all memory back in the end.

    Parameters
    ----------
    network
        On the machine's device.
    machine
        See `machine_for`.
    most
        Images in a batch, at most; None leaves it to the machine.
    record
        Allow passes to be recorded where the machine can.
    tile
        Cut larger images into tiles of this size, for an approximate result; None takes them whole.

    Attributes
    ----------
    batch
        Images that `submit` should be given next: 1 at first, then as many as fit.
    """

    def __init__(
        self,
        network: nn.Module,
        machine: Machine,
        most: int | None = None,
        *,
        record: bool = True,
        tile: Tile | None = None,
    ) -> None:
        let_idle_threads_sleep()
        self.batch = 1
        self._network, self._machine, self._most, self._tile = network, machine, most, tile
        self._streams = Streams(machine)
        self._free = [Slot(machine, self._streams) for _ in range(machine.in_flight)]
        self._flying: deque[Slot | np.ndarray] = deque()
        self._recorder = Recorder(machine, self._streams.compute)
        self._in_strips, self._collected, self._largest = False, 0, 0
        self._notes: list[str] = []
        if not (record and machine.can_record and isinstance(network, RestoreRWKV)):
            self._recorder.stop("not for this device and network")
        elif tile is not None:
            self._recorder.stop("slices in tiles are not recorded")
        elif kernel_in_use(machine.device).name.startswith("portable"):
            self._recorder.stop("the portable form of the operator waits for the GPU")

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Until all streams have come to rest, transfers may use the buffers.
            self._machine.settle()
        finally:
            self._flying.clear()
            self._free.clear()
            self._recorder.drop()
            del self._network
            self._machine.close()

    @property
    def wants_more(self) -> bool:
        """Whether the next batch may be submitted before the last is collected; the very first is to be seen first."""
        return len(self._flying) < (self._machine.in_flight if self._collected else 1)

    def submit(self, images: Sequence[np.ndarray]) -> Generator[str, None, None]:
        """Send images off, stopping after each part of the network; what it yields is "", or a note on the memory.

        Parameters
        ----------
        images
            Shape (Y, X) each, or (C, Y, X) with context, float32, scaled for the network.

        Raises
        ------
        DeviceError
            If there is not enough memory for one image, even in strips of rows.
        """
        waiting = list(images)
        if not self._largest and (note := self._look_for_room(*waiting[0].shape[-2:])):
            yield note
        while waiting:
            some = waiting[: self.batch]
            slot = self._free_slot()
            try:
                yield from self._fly(slot, some)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                # Its traceback holds on to the very maps that were too large.
                cause = error.with_traceback(None)
            else:
                self._flying.append(slot)
                self._largest = max(self._largest, len(some))
                del waiting[: len(some)]
                continue
            # The failed batch may still be on its way, and its slot is used again at once.
            self._machine.settle()
            self._free.append(slot)
            yield self._make_do(len(some), some[0].shape[-2:], cause)

    def collect(self) -> np.ndarray:
        """Wait for the oldest images under way; (B, Y, X), float32, in the order of `submit`, B as many as fitted."""
        oldest = self._flying.popleft()
        result = self._landed(oldest) if isinstance(oldest, Slot) else oldest
        if not self._collected:
            self.batch = self._affordable(*result.shape[1:])
        self._collected += len(result)
        return result

    def report(self) -> dict[str, Any]:
        """Tell how the work was done, as plain values."""
        replays = {"replays": self._recorder.replays, "why_not": self._recorder.why_not}
        return {
            "slices_at_once": self._largest,
            "in_strips": self._in_strips,
            **({"cuda_graph": replays} if self._machine.can_record else {}),
            **({"notes": list(self._notes)} if self._notes else {}),
        }

    def _fly(self, slot: Slot, images: Sequence[np.ndarray]) -> Iterator[str]:
        stages = self._stages(slot.upload(images))
        while True:
            try:
                # Entered anew each time: between two steps the consumer's own code runs in this thread.
                with torch.inference_mode(), self._machine.computing(self._streams.compute):
                    result = next(stages)
            except StopIteration:
                break
            yield ""
        slot.download(result)

    def _stages(self, batch: Tensor) -> Iterator[Tensor]:
        """Run the network, yielding its result last."""
        replayed = self._recorder.replay(batch, self._network)
        if replayed is not None:
            yield replayed
        elif self._tile is not None:
            yield from in_tiles(batch, self._tile, self._run)
        else:
            yield from self._run(batch)

    def _run(self, batch: Tensor) -> Iterator[Tensor]:
        if isinstance(self._network, RestoreRWKV):
            yield from self._network.stages(batch, in_strips=self._in_strips)
        elif isinstance(self._network, NonLocalMeans):
            yield from self._network.stages(batch)
        else:
            yield self._network(batch.to(next(self._network.parameters(), batch).dtype))

    def _bytes_per_slice(self, height: int, width: int, *, in_strips: bool = False) -> int:
        """Estimate what one slice takes; 0 for a network that we know nothing of."""
        if not isinstance(self._network, RestoreRWKV):
            return 0
        sides = (height, width) if self._tile is None else self._tile.fitted(height, width)
        return bytes_per_slice(self._network, *sides, in_strips=in_strips)

    def _look_for_room(self, height: int, width: int) -> str:
        """Go into strips before a slice is begun that would not fit as a whole; return that in words.

        A processor's memory does not fail like that of a GPU: the system ends the process that takes too much. Later
        slices fit where the first one has; what it took is kept for them, and is not free any more.
        """
        if self._in_strips or self._machine.has_room(self._bytes_per_slice(height, width)):
            return ""
        if not self._machine.has_room(self._bytes_per_slice(height, width, in_strips=True), all_of_it=True):
            raise self._out_of_memory(height, width)
        return self._go_into_strips()

    def _go_into_strips(self) -> str:
        note = "memory is short: one slice at a time, in strips of rows"
        self._recorder.stop(note)
        self._in_strips = True
        self._notes.append(note)
        return note

    def _make_do(self, size: int, shape: tuple[int, ...], cause: Exception) -> str:
        """Decide how to go on after a batch of this size did not fit; return it in words."""
        if size > 1:
            self._recorder.drop()
            self.batch = size // 2
            note = f"memory is short: {self.batch} slice{'s' if self.batch > 1 else ''} at a time"
            self._notes.append(note)
        elif isinstance(self._network, RestoreRWKV) and not self._in_strips:
            note = self._go_into_strips()
        else:
            raise self._out_of_memory(*shape) from cause
        self._machine.give_back()
        return note

    def _out_of_memory(self, height: int, width: int) -> DeviceError:
        needs = ""
        if isinstance(self._network, RestoreRWKV):
            gigabytes = self._bytes_per_slice(height, width, in_strips=True) / 1e9
            needs = f", which takes about {gigabytes:.2g} GB even in strips of rows"
        return DeviceError(
            f"There is not enough memory on {self._machine.device.type} for a slice of {height} x {width}{needs}; "
            "close other programs, or use the light network, a smaller slice, or --tile on the command line."
        )

    def _affordable(self, height: int, width: int) -> int:
        """How many slices fit at once: by the estimate, or by what the first one took if that was more."""
        free = self._machine.free_memory()
        if free is None or self._in_strips:
            return 1
        per_slice = max(self._machine.peak_memory(), self._bytes_per_slice(height, width))
        return slices_at_once(free, per_slice, height * width, self._most)

    def _free_slot(self) -> Slot:
        if not self._free:
            # A batch that was halved has more parts than there are slots.
            at, slot = next((at, slot) for at, slot in enumerate(self._flying) if isinstance(slot, Slot))
            self._flying[at] = self._landed(slot)
        return self._free.pop()

    def _landed(self, slot: Slot) -> np.ndarray:
        result = slot.wait()
        self._free.append(slot)
        return result


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in _SHORT_OF_MEMORY
    )
