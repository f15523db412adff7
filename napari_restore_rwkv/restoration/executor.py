"""Batches of images through a network: transfers overlap with computation, and batches shrink if memory runs short.

While a GPU processes one batch, the next is uploaded and the previous one downloaded. A CPU takes one image at a
time.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ..errors import DeviceError
from ..network.bi_wkv import kernel_in_use
from ..network.model import RestoreRWKV
from ..network.restorer import stages_of
from ..threads import let_idle_threads_sleep
from .cuda_graph import CudaGraph
from .memory_estimate import bytes_per_slice, slices_at_once
from .staging_buffers import StagingBuffers, Streams
from .tiles import in_tiles

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    from torch import Tensor, nn

    from .machine import Machine
    from .tiles import Tile

# How the libraries below PyTorch report a lack of memory; they have no error class for it.
_SHORT_OF_MEMORY = ("allocate memory", "out of memory", "ALLOC_FAILED")


class _Run:
    """A pass of the network in progress."""

    def __init__(self, stages: Iterator[Tensor]) -> None:
        self._stages = stages
        self.result: Tensor

    def advance(self) -> bool:
        """Run the next stage, whose result replaces the previous one; False once there are no more."""
        try:
            self.result = next(self._stages)
        except StopIteration:
            return False
        return True


class Executor:
    """Runs images of one shape through a network; a context manager that releases all memory at the end.

    Parameters
    ----------
    network
        On the machine's device.
    machine
        See `machine_for`.
    most
        Maximum number of images in a batch; None leaves it to the machine.
    record
        Allow passes to be recorded if the machine can.
    tile
        Cut larger images into tiles of this size, for an approximate result; None processes them whole.

    Attributes
    ----------
    batch
        How many images `submit` should be given next: 1 at first, then as many as fit.
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
        self._free = [StagingBuffers(machine, self._streams) for _ in range(machine.in_flight)]
        self._in_flight: deque[StagingBuffers | np.ndarray] = deque()
        self._recorder = CudaGraph(machine, self._streams.compute)
        self._in_strips, self._collected, self._largest = False, 0, 0
        self._notes: list[str] = []
        if not (record and machine.can_record and isinstance(network, RestoreRWKV)):
            self._recorder.stop("not for this device and network")
        elif tile is not None:
            self._recorder.stop("slices in tiles are not recorded")
        elif not kernel_in_use(machine.device).compiled:
            self._recorder.stop("the portable form of the operator waits for the GPU")

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Transfers may use the buffers until all streams are idle.
            self._machine.settle()
        finally:
            self._in_flight.clear()
            self._free.clear()
            self._recorder.drop()
            del self._network
            self._machine.close()

    @property
    def wants_more(self) -> bool:
        """Whether the next batch may be submitted before the last is collected; the very first must be shown first."""
        return len(self._in_flight) < (self._machine.in_flight if self._collected else 1)

    def submit(self, images: Sequence[np.ndarray]) -> Generator[str, None, None]:
        """Submit images, yielding after each stage of the network: "", or a note on memory.

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
        run: _Run | None
        if not self._largest and (note := self._look_for_room(*waiting[0].shape[-2:])):
            yield note
        while waiting:
            some = waiting[: self.batch]
            buffers = self._free_buffers()
            try:
                run = _Run(self._started(buffers.upload(some)))
                while self._run_stage(run):
                    yield ""
                buffers.download(run.result)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                # Its traceback keeps the maps that were too large alive.
                cause = error.with_traceback(None)
            else:
                self._in_flight.append(buffers)
                self._largest = max(self._largest, len(some))
                del waiting[: len(some)]
                continue
            finally:
                run = None
            # The failed batch may still be in transfer, and its buffers are reused at once.
            self._machine.settle()
            self._free.append(buffers)
            yield self._reduce_memory(len(some), some[0].shape[-2:], cause)

    def collect(self) -> np.ndarray:
        """Wait for the oldest images in progress; (B, Y, X), float32, in the order of `submit`, B as many as fitted."""
        oldest = self._in_flight.popleft()
        result = self._take_result(oldest) if isinstance(oldest, StagingBuffers) else oldest
        if not self._collected:
            self.batch = self._affordable(*result.shape[1:])
        self._collected += len(result)
        return result

    def report(self) -> dict[str, Any]:
        """Describe how the work was done, as plain values."""
        replays = {"replays": self._recorder.replays, "why_not": self._recorder.why_not}
        return {
            "slices_at_once": self._largest,
            "in_strips": self._in_strips,
            **({"cuda_graph": replays} if self._machine.can_record else {}),
            **({"notes": list(self._notes)} if self._notes else {}),
        }

    def _started(self, batch: Tensor) -> Iterator[Tensor]:
        """Return an iterator that runs the network and yields its result last."""
        with self._computing():
            replayed = self._recorder.replay(batch, self._network)
            if replayed is not None:
                return iter([replayed])
            return self._run(batch) if self._tile is None else in_tiles(batch, self._tile, self._run)

    def _run_stage(self, run: _Run) -> bool:
        """Run the next stage of the network; False once there are no more."""
        # Entered for each stage: between two of them the consumer's own code runs in this thread.
        with self._computing():
            return run.advance()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), self._machine.computing(self._streams.compute):
            yield

    def _run(self, batch: Tensor) -> Iterator[Tensor]:
        return stages_of(self._network, batch, in_strips=self._in_strips)

    def _bytes_per_slice(self, height: int, width: int, *, in_strips: bool = False) -> int:
        """Estimate the memory of one slice in bytes; 0 for an unknown type of network."""
        if not isinstance(self._network, RestoreRWKV):
            return 0
        sides = (height, width) if self._tile is None else self._tile.fitted(height, width)
        return bytes_per_slice(self._network, *sides, in_strips=in_strips)

    def _look_for_room(self, height: int, width: int) -> str:
        """Switch to strips before starting a slice that would not fit as a whole; return a note saying so.

        On a CPU, running out of memory is not an error as on a GPU: the system kills the process that takes too much.
        Later slices fit if the first one did; its memory is kept for them, and no longer counts as free.
        """
        if self._in_strips or self._machine.has_room(self._bytes_per_slice(height, width)):
            return ""
        if not self._machine.has_room(self._bytes_per_slice(height, width, in_strips=True), all_of_it=True):
            raise self._out_of_memory(height, width)
        return self._switch_to_strips()

    def _switch_to_strips(self) -> str:
        note = "memory is short: one slice at a time, in strips of rows"
        self._recorder.stop(note)
        self._in_strips = True
        self._notes.append(note)
        return note

    def _reduce_memory(self, size: int, shape: tuple[int, ...], cause: Exception) -> str:
        """Decide how to continue after a batch of this size did not fit; return a note saying so."""
        if size > 1:
            self._recorder.drop()
            self.batch = size // 2
            note = f"memory is short: {self.batch} slice{'s' if self.batch > 1 else ''} at a time"
            self._notes.append(note)
        elif isinstance(self._network, RestoreRWKV) and not self._in_strips:
            note = self._switch_to_strips()
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

    def _free_buffers(self) -> StagingBuffers:
        if not self._free:
            # A halved batch has more parts than there are buffers.
            at, buffers = next(
                (at, buffers) for at, buffers in enumerate(self._in_flight) if isinstance(buffers, StagingBuffers)
            )
            self._in_flight[at] = self._take_result(buffers)
        return self._free.pop()

    def _take_result(self, buffers: StagingBuffers) -> np.ndarray:
        result = buffers.wait()
        self._free.append(buffers)
        return result


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in _SHORT_OF_MEMORY
    )
