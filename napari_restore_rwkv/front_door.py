"""One call for images of any kind: the result has the same type as the input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import numpy as np
import torch

from .device import choose_device
from .errors import ScanError
from .network.classical import load_restorer
from .progress import finish
from .restoration.restore import iter_restore
from .scans.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

    from .restoration.intensity import IntensityRule
    from .restoration.tiles import Tile

Image = TypeVar("Image")


class Options(TypedDict, total=False):
    """How to restore; each keyword is that of `iter_restore`."""

    axis: str
    indices: Iterable[int] | None
    dtype: Any
    intensity: IntensityRule | None
    any_modality: bool
    precision: str
    batch: int | None
    tile: Tile | None
    noise: float | None
    strength: float


def restore(
    image: Image,
    weights: str | Path | nn.Module,
    *,
    device: str | torch.device = "auto",
    **options: Unpack[Options],
) -> Image:
    """Restore an image, and return one of the same type and shape.

    Parameters
    ----------
    image
        A NumPy array, a PyTorch tensor (its result is on the same device) or a dask array of shape (Y, X) or (Z, Y, X)
        in the unit of its modality, such as HU; a `Scan`; or an image layer of napari, whose result has the same
        position. Slices of a dask array are read one by one, and the result is in memory: for larger ones there is
        `restore_to_zarr`.
    weights
        A task with shipped weights, such as "ct-denoise", or "classical:ct-denoise" for the filter; a file of weights;
        or a network from `load_checkpoint`.
    device
        "auto" takes an NVIDIA GPU if there is one; or "cpu", "cuda", "cuda:1".
    **options
        As for `iter_restore`. A three-dimensional array is sliced along its first axis unless `axis` says otherwise.

    Returns
    -------
    object
        Values are in the unit of the image; integers of 16 bits and more keep their type, all others become float32.

    Raises
    ------
    ScanError
        If it is none of these, has other dimensions, or cannot be restored as it is.
    CheckpointError
        If there are no such weights, they are for another modality, or return NaN or infinite values.
    DeviceError
        If there is no such device, or it runs out of memory with a single slice.
    """
    if (layers := sys.modules.get("napari.layers")) is not None and isinstance(image, layers.Layer):
        from .gui.layers import layer_to_scan, restored_layer

        return restored_layer(image, _restored(layer_to_scan(image), weights, device, options).voxels)
    if isinstance(image, Scan):
        whole: Any = _restored(image, weights, device, options)
        return whole
    voxels, back = _as_array(image)
    if len(voxels.shape) not in (2, 3):
        raise ScanError(f"An image must have the shape (Y, X) or (Z, Y, X); got {tuple(voxels.shape)}: give one frame.")
    flat = len(voxels.shape) == 2
    options = {**options, "axis": "z" if flat else options.get("axis", "z")}
    restored = np.asarray(_restored(Scan(voxels[None] if flat else voxels), weights, device, options).voxels)
    return back(restored[0] if flat else restored)


def _restored(scan: Scan, weights: str | Path | nn.Module, device: str | torch.device, options: Options) -> Scan:
    network = weights if isinstance(weights, torch.nn.Module) else load_restorer(weights)
    return finish(iter_restore(scan, network, device=choose_device(str(device)), **options))


def _as_array(image: Any) -> tuple[Any, Any]:
    """Return an array to read slice by slice, and a function that converts a NumPy array to the type of the input."""
    if isinstance(image, np.ndarray):
        return image, lambda voxels: voxels
    if isinstance(image, torch.Tensor):
        return image.detach().cpu().numpy(), lambda voxels: torch.from_numpy(voxels).to(image.device)
    if (dask := sys.modules.get("dask.array")) is not None and isinstance(image, dask.Array):
        return image, lambda voxels: dask.from_array(voxels, chunks=image.chunks)
    raise ScanError(
        f"A {type(image).__name__} cannot be restored: give a NumPy, PyTorch or dask array, a Scan, or an image layer."
    )
