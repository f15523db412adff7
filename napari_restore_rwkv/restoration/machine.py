"""What a job needs from a device besides arithmetic: buffers, streams, transfers, and memory.

A stream does its work in order, concurrently with other streams. `Machine` serves every device without streams, above
all the CPU: its work is done when the call returns. `CudaMachine` contains all calls to torch.cuda.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ..device import free_memory
from .memory import give_back_unused
from .precision import exact_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

# The heap keeps freed memory, so it grows beyond what is in use: by half at 2048 x 2048, less below.
_HEAP = 1.5
# Streams of finished jobs, for reuse: cuBLAS keeps a workspace for every stream that it has ever run on.
_idle_streams: defaultdict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)


class Machine:
    """A device that does one thing at a time.

    Attributes
    ----------
    device
        Where the network is.
    in_flight
        Number of batches in progress at the same time.
    can_record
        Whether `record` works here.
    """

    in_flight = 1
    can_record = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Float32 host memory for transfers; uninitialised."""
        return torch.empty(shape)

    def device_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Float32 memory of the device; uninitialised."""
        return torch.empty(shape, device=self.device)

    def stream(self) -> Any:
        """Return a new stream with ``wait_stream(other)`` and ``record_event()``; an event has ``synchronize()``."""
        return _InOrder()

    def computing(self, stream: Any) -> AbstractContextManager[Any]:
        """Inside, the network runs on this stream, and float32 means float32."""
        return nullcontext()

    def copy(self, target: Tensor, source: Tensor, stream: Any) -> None:
        """Queue a transfer; neither side may be touched before the stream has come so far."""
        target.copy_(source)

    def record(self, run: Callable[[], Tensor], stream: Any) -> tuple[Callable[[], None], Tensor]:
        """Record what `run` queues, without executing it; return a replay function, and the tensor for its result."""
        raise NotImplementedError

    def free_memory(self) -> int | None:
        """Bytes available for batches of several slices; None if batches gain nothing."""
        return None

    def has_room(self, size: int, *, all_of_it: bool = False) -> bool:
        """Whether buffers of this many bytes fit comfortably, or barely with `all_of_it`; True if unknown."""
        needed = size * (1.0 if all_of_it else _HEAP)

        def fits() -> bool:
            free = free_memory(self.device)
            return free is None or needed <= free

        if fits():
            return True
        # Memory that an earlier job has freed may still be held for the next one.
        give_back_unused()
        return fits()

    def peak_memory(self) -> int:
        """Peak bytes in use since this object was created, beyond what was in use then; 0 if unknown."""
        return 0

    def settle(self) -> None:
        """Wait until all streams have come to rest."""

    def give_back(self) -> None:
        """Return unused memory to the system."""

    def close(self) -> None:
        """End a job whose streams have come to rest: its memory and streams are free for others."""
        self.give_back()


class _InOrder:
    """Stands in for streams and events on a device without streams."""

    def wait_stream(self, other: Any) -> None:
        pass

    def record_event(self) -> _InOrder:
        return self

    def synchronize(self) -> None:
        pass


class CudaMachine(Machine):
    """An NVIDIA GPU: transfers overlap with the network, and a pass can be recorded as a CUDA graph."""

    in_flight = 2
    can_record = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._streams: list[torch.cuda.Stream] = []
        torch.cuda.reset_peak_memory_stats(device)
        self._in_use_before = torch.cuda.memory_allocated(device)

    def host_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """Pinned memory, which the GPU can read directly."""
        return torch.empty(shape, pin_memory=True)

    def stream(self) -> Any:
        """Return a stream for this job only, which sees everything that the caller has queued so far."""
        try:
            stream = _idle_streams[self.device].pop()
        except IndexError:
            stream = torch.cuda.Stream(self.device)
        self._streams.append(stream)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        return stream

    @contextmanager
    def computing(self, stream: Any) -> Iterator[None]:
        """Inside, the network runs on this stream, and float32 means float32."""
        with exact_float32(), torch.cuda.stream(stream):
            yield

    def copy(self, target: Tensor, source: Tensor, stream: Any) -> None:
        """Queue a transfer; neither side may be touched before the stream has come so far."""
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)

    def record(self, run: Callable[[], Tensor], stream: Any) -> tuple[Callable[[], None], Tensor]:
        """Record a CUDA graph; raises RuntimeError for work that cannot be recorded, such as waiting for a result."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as a viewer's, may continue to use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = run()
        return graph.replay, result

    def free_memory(self) -> int | None:
        """Bytes that a job may still take."""
        return free_memory(self.device)

    def has_room(self, size: int, *, all_of_it: bool = False) -> bool:
        """Return True: a GPU without room raises an error, so it is safe to try."""
        return True

    def peak_memory(self) -> int:
        """Peak bytes in use since this object was created, beyond what was in use then."""
        return torch.cuda.max_memory_allocated(self.device) - self._in_use_before

    def settle(self) -> None:
        """Wait until all streams have come to rest."""
        torch.cuda.synchronize(self.device)

    def give_back(self) -> None:
        """Return unused memory to the system."""
        with torch.cuda.device(self.device):
            torch.cuda.empty_cache()

    def close(self) -> None:
        """End a job whose streams have come to rest: its memory and streams are free for others."""
        super().close()
        _idle_streams[self.device] += self._streams
        self._streams = []


def machine_for(device: torch.device) -> Machine:
    """Return the machine that serves a device."""
    return CudaMachine(device) if device.type == "cuda" else Machine(device)
