"""Staging buffers: memory for a batch of images on its way to the device and back.

Each batch in progress has its own buffers, which the next batch gets only after the results have been copied out. That
one rule keeps transfers from colliding: by then all reads and writes of the buffers have finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .machine import Machine


class Streams:
    """The three streams of a job: images to the device, the network, results back."""

    def __init__(self, machine: Machine) -> None:
        self.upload, self.compute, self.download = (machine.stream() for _ in range(3))


class StagingBuffers:
    """Buffers for one batch, on both sides; they grow to the largest batch."""

    def __init__(self, machine: Machine, streams: Streams) -> None:
        self._machine, self._streams = machine, streams
        self._shape: tuple[int, ...] = (0,)
        self._buffers: tuple[Tensor, Tensor, Tensor, Tensor]
        self._size = 0
        self._arrived: Any

    def upload(self, images: Sequence[np.ndarray]) -> Tensor:
        """Send images of shape (Y, X) or (C, Y, X); the batch (B, C, Y, X), float32, is for the compute stream."""
        channels = images[0].shape[0] if images[0].ndim == 3 else 1
        self._make_room(len(images), channels, images[0].shape[-2:])
        host, device, *_ = (buffer[: len(images)] for buffer in self._buffers)
        np.stack([image.reshape(host.shape[1:]) for image in images], out=host.numpy())
        self._machine.copy(device, host, self._streams.upload)
        self._streams.compute.wait_stream(self._streams.upload)
        return device

    def download(self, result: Tensor) -> None:
        """Fetch a result (B, 1, Y, X) that was computed on the compute stream."""
        *_, device, host = (buffer[: len(result)] for buffer in self._buffers)
        with self._machine.computing(self._streams.compute):
            # The memory of the network's maps is free from here on.
            device.copy_(result)
        self._streams.download.wait_stream(self._streams.compute)
        self._machine.copy(host, device, self._streams.download)
        self._size, self._arrived = len(result), self._streams.download.record_event()

    def wait(self) -> np.ndarray:
        """Wait for the result; (B, Y, X), float32, a copy: the buffers are then free."""
        self._arrived.synchronize()
        return self._buffers[3][: self._size, 0].numpy().copy()

    def _make_room(self, size: int, channels: int, shape: tuple[int, ...]) -> None:
        if size <= self._shape[0] and (channels, *shape) == self._shape[1:]:
            return
        self._shape = (size, channels, *shape)
        result_shape = (size, 1, *shape)
        machine, streams = self._machine, self._streams
        with machine.computing(streams.compute):
            images, results = machine.device_buffer(self._shape), machine.device_buffer(result_shape)
        # The memory may come from a map that the network is still using.
        streams.upload.wait_stream(streams.compute)
        self._buffers = (machine.host_buffer(self._shape), images, results, machine.host_buffer(result_shape))
