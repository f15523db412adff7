"""How much memory a training step takes, and which crops fit on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import torch

from ..device import free_memory
from ..errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..network.model import RestoreRWKV

# Gradients and temporary results, besides what is kept for the backward pass.
_BESIDE = 1.6
# Other programs use the machine as well.
_SHARE = 0.6
_UNKNOWN_FREE = 4 << 30
_PROBE_SIDE = 32


def crops_that_fit(
    network: RestoreRWKV, crops: Sequence[tuple[int, int]], plane: tuple[int, int], free: int | None
) -> tuple[tuple[int, int], ...]:
    """Choose the crops whose training step fits into the free memory, with smaller batches if that helps.

    Parameters
    ----------
    crops
        Side and batch of each; side 0 means a whole slice.
    plane
        Rows and columns of a whole slice.
    free
        Bytes; None if unknown: 4 GiB are then assumed.

    Raises
    ------
    DeviceError
        If not even one crop of the smallest side fits.
    """
    per_pixel = _BESIDE * bytes_per_pixel(network)
    pixels_that_fit = _SHARE * (_UNKNOWN_FREE if free is None else free) / per_pixel
    fitting = []
    for side, count in crops:
        pixels = side * side or plane[0] * plane[1]
        if pixels <= pixels_that_fit:
            fitting.append((side, min(count, int(pixels_that_fit // pixels))))
    if not fitting:
        smallest = min(side for side, _ in crops if side) if any(side for side, _ in crops) else max(plane)
        needed = per_pixel * smallest**2 / _SHARE
        raise DeviceError(
            f"One training step of {smallest} x {smallest} pixels needs about {needed / 1e9:.1f} GB of memory, and "
            f"{(free or 0) / 1e9:.1f} GB are free; close other programs, or choose another device."
        )
    return tuple(fitting)


def bytes_per_pixel(network: RestoreRWKV) -> float:
    """Bytes that are kept for the backward pass per pixel of the input, counted in one small pass."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    image = torch.zeros(1, 1, _PROBE_SIDE, _PROBE_SIDE, device=next(network.parameters()).device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(image).sum()
    return sum(kept.values()) / _PROBE_SIDE**2


def available_memory(device: torch.device) -> int | None:
    """Bytes that training may still take; None if the system does not say."""
    return psutil.virtual_memory().available if device.type == "cpu" else free_memory(device)
