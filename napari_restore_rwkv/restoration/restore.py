"""Restoring one slice, or a scan slice by slice.

The network is two-dimensional and attends over a whole slice, so slices are exact on their own: nothing is tiled,
nothing overlaps. The viewer, the command line and the tests only iterate `restore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, DeviceError, ScanError
from ..network.model import RestoreRWKV
from ..progress import Progress, finish
from ..scans.intensity import IntensityRule, choose_intensity
from ..scans.scan import AXES
from .memory import reused_buffers
from .plan import choose_axis, nearest, region_of
from .provenance import InputDigest, provenance

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from ..scans.scan import Scan


def restore_slice(
    image: np.ndarray, network: nn.Module, intensity: IntensityRule, *, device: torch.device | None = None
) -> np.ndarray:
    """Restore one image.

    Parameters
    ----------
    image
        Shape (Y, X), any size from 1x1, in the unit of `intensity`.
    network
        Maps (B, 1, Y, X) to the same shape; moved to `device` if one is given.
    intensity
        How the values map to the network's range.

    Returns
    -------
    np.ndarray
        Shape (Y, X), float32, in the same unit. Values outside the window, NaN and infinities are those of the input.

    Raises
    ------
    ScanError
        If the image is not two-dimensional with real numbers in it.
    CheckpointError
        If the network returns values that are not numbers.
    DeviceError
        If the device runs out of memory.
    """
    _check_voxels(image, dimensions=2)
    if device is not None:
        network.to(device)
    return finish(_slice_steps(image, network, intensity))


def restore(
    scan: Scan,
    network: nn.Module,
    *,
    axis: str = "auto",
    indices: Iterable[int] | None = None,
    first: int | None = None,
    output: Any = None,
    dtype: Any = None,
    device: torch.device | None = None,
    intensity: IntensityRule | None = None,
    any_modality: bool = False,
) -> Generator[Progress, int | None, Scan]:
    """Restore a scan, slice by slice.

    Iterate it for `Progress`; ``send(i)`` says that slice i is on screen now, so that the next slice is the nearest
    to it; closing it cancels, and what is finished stays in `output`. The finished scan is the value of StopIteration.

    Parameters
    ----------
    scan
        Voxels (Z, Y, X), read slice by slice.
    network
        From `load_checkpoint`; moved to `device` if one is given.
    axis
        Axis across the slices: "z", "y", "x", or "auto" for the one with the largest spacing.
    indices
        Slices to restore, from 0; None means all. The others keep the values of `output`, by default the scan's own.
    first
        Slice on screen, which is restored first; None starts at 0.
    output
        Array to write to, with the shape of the scan: NumPy, zarr, or anything with ``shape`` and ``__setitem__``.
    dtype
        Type of the default output. None keeps integers of 16 bits and more, and takes float32 for everything else.
        Integers are rounded and clipped to their range.
    intensity
        How values map to the network's range; None chooses by modality.
    any_modality
        Restore although the weights were made for another modality.

    Yields
    ------
    Progress
        With a region after each slice, without one after each step inside a slice.

    Raises
    ------
    ScanError
        If the scan cannot be restored as it is.
    CheckpointError
        If the weights are for another modality, or return values that are not numbers.
    DeviceError
        If the device runs out of memory.
    """
    _check_voxels(scan.voxels, dimensions=3)
    _check_modality(scan, network, any_modality)
    along = choose_axis(scan, axis)
    remaining = _checked_indices(indices, scan.shape[along])
    if intensity is None:
        intensity = choose_intensity(scan, None if any_modality else scan.modality or _card_modality(network))
    if output is None:
        output = _new_output(scan, dtype, whole=len(remaining) == scan.shape[along])
    elif tuple(output.shape) != scan.shape:
        raise ScanError(
            f"The output has shape {tuple(output.shape)}, but the scan has {scan.shape}; give one of that shape."
        )
    if device is not None:
        network.to(device)

    digest, done, total = InputDigest(), 0, len(remaining)
    displayed = 0 if first is None else first
    with reused_buffers():
        while remaining:
            index = nearest(remaining, displayed)
            region = region_of(scan, along, index)
            image = np.asarray(scan.voxels[region])
            digest.add(index, image)
            steps = _slice_steps(image.squeeze(along), network, intensity)
            while True:
                try:
                    next(steps)
                except StopIteration as finished:
                    restored = finished.value
                    break
                displayed = _latest(displayed, (yield Progress(done, total, f"slice {done + 1} of {total}")))
            output[region] = _as_dtype(np.expand_dims(restored, along), image, output.dtype)
            remaining.remove(index)
            done += 1
            displayed = _latest(displayed, (yield Progress(done, total, f"slice {done} of {total}", region)))
    record = provenance(network, intensity, AXES[along], total, digest)
    return scan.with_voxels(output, metadata={**scan.metadata, "restoration": record})


def _slice_steps(image: np.ndarray, network: nn.Module, rule: IntensityRule) -> Generator[None, None, np.ndarray]:
    """Restore one (Y, X) image, stopping after each part of the network; returns float32 in the unit of the rule."""
    parameter = next(network.parameters(), torch.empty(0))
    batch = torch.from_numpy(rule.to_network(image))[None, None].to(parameter.device)
    stages = _stages(network, batch)
    result = batch
    while True:
        try:
            # Entered anew each time: between two steps the consumer's own code runs in this thread.
            with torch.inference_mode():
                result = next(stages)
        except StopIteration:
            break
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _out_of_memory(image, parameter.device) from error
        except RuntimeError as error:
            # PyTorch's CPU allocator has no error class of its own.
            if "allocate memory" not in str(error):
                raise
            raise _out_of_memory(image, parameter.device) from error
        yield
    if not torch.isfinite(result).all():
        raise CheckpointError(
            "The network returned values that are not numbers, so nothing was changed; use other weights."
        )
    return rule.from_network(result[0, 0].float().cpu().numpy(), image)


def _stages(network: nn.Module, batch: Tensor) -> Iterator[Tensor]:
    if isinstance(network, RestoreRWKV):
        yield from network.stages(batch)
    else:
        yield network(batch)


def _out_of_memory(image: np.ndarray, device: torch.device) -> DeviceError:
    height, width = image.shape
    return DeviceError(
        f"There is not enough memory on {device.type} for a slice of {height} x {width}; close other programs, "
        "or use the light network or a smaller slice."
    )


def _check_voxels(voxels: Any, dimensions: int) -> None:
    shape, dtype = tuple(voxels.shape), np.dtype(voxels.dtype)
    if len(shape) != dimensions:
        raise ScanError(
            f"A {'slice' if dimensions == 2 else 'scan'} has {dimensions} dimensions; got shape {shape}. "
            "Choose one time frame or channel."
        )
    if 0 in shape:
        raise ScanError(f"The scan is empty: its shape is {shape}.")
    if dtype.kind not in "iuf":
        raise ScanError(f"Voxels must be integers or real numbers, got {dtype}; convert the scan first.")


def _card_modality(network: nn.Module) -> str | None:
    return getattr(getattr(network, "card", None), "modality", None)


def _check_modality(scan: Scan, network: nn.Module, any_modality: bool) -> None:
    made_for = _card_modality(network)
    if any_modality or None in (made_for, scan.modality) or made_for == scan.modality:
        return
    raise CheckpointError(
        f"These weights were made for {made_for}, but this scan is {scan.modality}; "
        f"choose weights for {scan.modality}, or allow any modality."
    )


def _checked_indices(indices: Iterable[int] | None, size: int) -> set[int]:
    chosen = set(range(size)) if indices is None else set(indices)
    if not chosen:
        raise ScanError("No slice was chosen; choose at least one.")
    if min(chosen) < 0 or max(chosen) >= size:
        raise ScanError(f"Slices run from 0 to {size - 1}; got {min(chosen)} to {max(chosen)}.")
    return chosen


def _new_output(scan: Scan, dtype: Any, *, whole: bool) -> np.ndarray:
    own = np.dtype(scan.voxels.dtype)
    chosen = (
        np.dtype(dtype) if dtype is not None else own if own.kind in "iu" and own.itemsize > 1 else np.dtype(np.float32)
    )
    return (
        np.empty(scan.shape, chosen) if whole else _as_dtype(np.asarray(scan.voxels), np.asarray(scan.voxels), chosen)
    )


def _as_dtype(values: np.ndarray, original: np.ndarray, dtype: Any) -> np.ndarray:
    """Convert to the output's type; integers are rounded and clipped, and untouched voxels stay what they were."""
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    # The largest 64-bit integers have no float64 of their own: the next one below is the highest that fits.
    highest = limits.max if int(float(limits.max)) <= limits.max else np.nextafter(float(limits.max), 0)
    # NaN and infinities have no integer: 0, or the nearest end of the range, stands for them.
    finite = np.nan_to_num(values.astype(np.float64), posinf=highest, neginf=limits.min)
    converted = np.rint(finite).clip(limits.min, highest).astype(dtype)
    if original.dtype == dtype:
        # What passed through as float32 may have lost digits.
        converted = np.where(values == original.astype(np.float32), original, converted)
    return converted


def _latest(displayed: int, sent: int | None) -> int:
    return displayed if sent is None else sent
