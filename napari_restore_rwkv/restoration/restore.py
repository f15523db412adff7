"""Restoring one slice, or a scan slice by slice.

The network is two-dimensional and attends over a whole slice, so every slice is exact: nothing is tiled and nothing
overlaps unless requested (see `tiles`). On a GPU several slices go through the network together. The viewer, the
command line and the tests only iterate `restore`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ScanError
from ..progress import Phase, Progress, Run, finish
from ..scans.slice_axis import choose_slice_axis, slice_shape
from .checks import check_batch, check_finite, check_image, check_modality, check_voxels, checked_indices
from .context import network_input, uses_context
from .intensity import rule_for
from .noise import known_noise
from .output import as_dtype, new_output
from .plan import region_of
from .precision import EXACT
from .provenance import InputDigest, provenance
from .slices import Plan, Working, executor_for, restore_slices, result_of
from .source import ScanSource, Slice
from .tiles import tiling_record

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    import torch
    from torch import nn

    from ..scans.scan import Scan
    from .intensity import IntensityRule
    from .tiles import Tile


def restore_slice(
    image: np.ndarray,
    network: nn.Module,
    intensity: IntensityRule,
    *,
    device: torch.device | None = None,
    precision: str = EXACT,
    noise: float | None = None,
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
    precision
        "float32", or lower precision: "bfloat16", "float16".
    noise
        Standard deviation of the noise in the unit of `intensity`, for weights that use it; None if unknown.

    Returns
    -------
    np.ndarray
        Shape (Y, X), float32, in the same unit. Values outside the window, NaN and infinities are those of the input.

    Raises
    ------
    ScanError
        If the image is not two-dimensional or does not contain real numbers.
    CheckpointError
        If the network returns NaN or infinite values.
    DeviceError
        If the device runs out of memory, or the precision is none of these.
    """
    check_voxels(image, dimensions=2)
    check_image(image)
    if device is not None:
        network.to(device)
    plan, one = Plan(intensity, noise, precision), Slice(0, image, image, image)
    with executor_for(network, plan) as executor:
        finish(executor.submit([network_input(one, network, intensity, noise)]))
        [values] = executor.collect()
    check_finite(values, precision)
    return result_of(values, image, network, plan)


def iter_restore(
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
    precision: str = EXACT,
    batch: int | None = None,
    tile: Tile | None = None,
    noise: float | None = None,
    strength: float = 1.0,
) -> Generator[Progress, int | None, Scan]:
    """Restore a scan, slice by slice.

    Iterate it for `Progress`; ``send(i)`` says that slice i is now on screen, so that the nearest slice comes next;
    closing it cancels, and finished slices stay in `output`. The finished scan is the value of StopIteration.

    Parameters
    ----------
    scan
        Voxels (Z, Y, X), read slice by slice.
    network
        From `load_checkpoint`; moved to `device` if one is given.
    axis
        Axis across the slices: "z", "y", "x", or "auto"; see `choose_slice_axis`.
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
        Restore even if the weights were made for another modality.
    precision
        "float32", or lower precision: "bfloat16", "float16". With lower precision, the first slice is also restored in
        float32, and the difference becomes part of the provenance.
    batch
        Maximum number of slices that a GPU processes together; None lets the size of the slices and the free memory
        decide. The first slice is processed alone, and a CPU takes one at a time.
    tile
        Restore larger slices in tiles of this size: the result is approximate, and the provenance says so. None
        restores whole slices, which is exact.
    noise
        Standard deviation of the noise in the unit of the scan, for weights that use it; None measures it if they do.
        No more is removed from a slice than its noise accounts for.
    strength
        Fraction of the change that is applied, 0 to 1: ``input + strength (restored - input)``.

    Yields
    ------
    Progress
        With a region after each slice; without one after each step inside a slice (on a GPU: inside a batch that is
        not replayed from a recording), and when less memory is used because there is too little.

    Raises
    ------
    ScanError
        If the scan cannot be restored as it is.
    CheckpointError
        If the weights are for another modality, or return NaN or infinite values.
    DeviceError
        If the device runs out of memory with a single slice, or the precision is none of these.
    """
    check_batch(batch)
    check_voxels(scan.voxels, dimensions=3)
    check_modality(scan, network, any_modality)
    chosen_axis = choose_slice_axis(scan, axis)
    along = chosen_axis.axis
    remaining = checked_indices(indices, scan.shape[along])
    if intensity is None:
        intensity = rule_for(scan, network, any_modality)
    if output is None:
        output = new_output(scan, dtype, whole=len(remaining) == scan.shape[along])
    elif tuple(output.shape) != scan.shape:
        raise ScanError(
            f"The output has shape {tuple(output.shape)}, but the scan has {scan.shape}; give one of that shape."
        )
    if device is not None:
        network.to(device)

    noise = known_noise(scan, network, along, noise)
    source = ScanSource(scan, along, remaining, displayed=first or 0, neighbours=uses_context(network))
    plan = Plan(intensity, noise, precision, batch, tile, strength, scan.modality)
    digest, done, total = InputDigest(), 0, len(remaining)
    steps = Run(restore_slices(source, network, plan))
    with contextlib.closing(steps):
        for step in steps:
            if isinstance(step, Working):
                progress = Progress(step.phase, done, total, detail=step.note)
            else:
                digest.add(step.index, step.image)
                region = region_of(scan, along, step.index)
                output[region] = np.expand_dims(as_dtype(step.values, step.image, output.dtype), along)
                done += 1
                progress = Progress(Phase.RESTORING, done, total, region)
            sent = yield progress
            source.displayed = source.displayed if sent is None else sent
    mode = tiling_record(tile, *slice_shape(scan, along))
    record = provenance(
        network, intensity, chosen_axis, total, digest, noise=noise, strength=strength, **mode, **steps.result
    )
    return scan.with_voxels(output, metadata={**scan.metadata, "restoration": record})
