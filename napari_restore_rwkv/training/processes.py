"""Several processes that train one network, on one or more machines; torchrun starts them, torch.distributed connects.

Each computes the gradients of its own batches, and all take the step given by their mean, so n processes do what one
does with n times the batch. CPUs communicate through gloo, NVIDIA GPUs through nccl.
"""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from ..device import choose_device
from ..errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from torch import nn

# A process that scores a large slice, or reads from a slow disk, is not dead.
_PATIENCE = timedelta(minutes=30)
# What gloo, nccl and torch's store report if the other end is gone.
_SIGNS_OF_LOSS = ("peer", "connection", "gloo", "nccl", "timed out", "timeout", "socket")


class Processes:
    """The processes that train together; by default only this one.

    Attributes
    ----------
    rank, size
        Number of this process from 0, and the number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the process that saves and reports."""
        return self.rank == 0

    def together(self, network: nn.Module) -> nn.Module:
        """Return what to call instead of the network: its gradients become the mean over all processes."""
        if self.size == 1:
            return network
        with self.lost_process_errors():
            return DistributedDataParallel(network, gradient_as_bucket_view=True)

    @contextlib.contextmanager
    def exchanging(self, together: nn.Module, *, last: bool) -> Iterator[None]:
        """Exchange gradients in a backward pass if it is the last of its step; before that, they only accumulate."""
        waiting: AbstractContextManager[Any] = contextlib.nullcontext()
        if isinstance(together, DistributedDataParallel) and not last:
            waiting = together.no_sync()
        with self.lost_process_errors(), waiting:
            yield

    def begin_mean(self, value: torch.Tensor) -> Callable[[], float]:
        """Start the mean of a number over all processes; all of them must call this, and the returned function."""
        if self.size == 1:
            return value.item
        with self.lost_process_errors():
            exchange = distributed.all_reduce(value, async_op=True)

        def mean() -> float:
            with self.lost_process_errors():
                exchange.wait()
            return value.item() / self.size

        return mean

    def gathered(self, value: Any) -> list[Any]:
        """The value of each process, in order of rank; all of them must call this."""
        if self.size == 1:
            return [value]
        everything: list[Any] = [None] * self.size
        with self.lost_process_errors():
            distributed.all_gather_object(everything, value)
        return everything

    @contextlib.contextmanager
    def lost_process_errors(self) -> Iterator[None]:
        """Turn torch's errors about a lost process into a clear DeviceError."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.size == 1 or not any(sign in str(error).lower() for sign in _SIGNS_OF_LOSS):
                raise
            raise DeviceError(
                "Another process of this training has ended, so this one ends as well; start the same command again "
                "to continue from the last saved step."
            ) from error


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun started, if it did; yield them, and the device of this one.

    Parameters
    ----------
    device
        As for `choose_device`; with several GPUs each process of a machine takes its own.

    Raises
    ------
    DeviceError
        There is no such device, fewer GPUs than processes on this machine, or the others cannot be reached.
    """
    size, rank, local = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
    chosen = choose_device(device)
    if size == 1:
        yield Processes(), chosen
        return
    if chosen.type == "cuda":
        if local >= torch.cuda.device_count():
            raise DeviceError(
                f"torchrun started {local + 1} or more processes on this machine, which has "
                f"{torch.cuda.device_count()} GPUs; start one process for each GPU."
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    processes = Processes(rank, size)
    with processes.lost_process_errors():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield processes, chosen
    finally:
        distributed.destroy_process_group()


# What torchrun sets for its processes, and the values without it.
_VARIABLES = (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
