"""Restoring one slice, or a scan slice by slice.

The network is two-dimensional and attends over a whole slice, so slices are exact on their own: nothing is tiled and
nothing overlaps unless it is asked for (see `tiles`). On a GPU several go through the network together. The viewer, the
command line and the tests only iterate `restore`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import DeviceError, ScanError
from ..network.checkpoint import KEEPS_MEASURED
from ..progress import Progress, finish
from ..scans.intensity import choose_intensity
from ..scans.slice_axis import choose_slice_axis
from .checks import card_modality, check_batch, check_finite, check_modality, check_voxels, checked_indices
from .consistency import in_units, keeps_measured
from .executor import Executor
from .machine import machine_for
from .memory import reused_buffers
from .output import as_dtype, new_output
from .plan import nearest, region_of
from .precision import EXACT, converted, deviation
from .provenance import InputDigest, provenance
from .tiles import told_mode

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from torch import nn

    from ..scans.intensity import IntensityRule
    from ..scans.scan import Scan
    from .tiles import Tile


def restore_slice(
    image: np.ndarray,
    network: nn.Module,
    intensity: IntensityRule,
    *,
    device: torch.device | None = None,
    precision: str = EXACT,
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
        "float32", or fewer digits: "bfloat16", "float16".

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
        If the device runs out of memory, or the precision is none of these.
    """
    check_voxels(image, dimensions=2)
    if device is not None:
        network.to(device)
    with _executor(network, precision) as executor:
        finish(executor.submit([intensity.to_network(image)]))
        [values] = executor.collect()
    check_finite(values, precision)
    return in_units(values, image, intensity, network)


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
    precision: str = EXACT,
    batch: int | None = None,
    tile: Tile | None = None,
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
        Restore although the weights were made for another modality.
    precision
        "float32", or fewer digits: "bfloat16", "float16". With fewer, the first slice is restored in float32 too, and
        the difference becomes part of the provenance.
    batch
        Slices that a GPU works on together, at most; None leaves it to the size of the slices and the free memory. The
        first slice goes alone, and a processor takes one at a time.
    tile
        Restore slices that are larger in tiles of this size: an approximate result, and so it is called in the
        provenance. None restores whole slices, which is exact.

    Yields
    ------
    Progress
        With a region after each slice, without one after each step inside a slice (on a GPU: inside a batch that is
        not replayed from a recording), and when less memory is used because there is too little.

    Raises
    ------
    ScanError
        If the scan cannot be restored as it is.
    CheckpointError
        If the weights are for another modality, or return values that are not numbers.
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
        intensity = choose_intensity(scan, None if any_modality else scan.modality or card_modality(network))
    if output is None:
        output = new_output(scan, dtype, whole=len(remaining) == scan.shape[along])
    elif tuple(output.shape) != scan.shape:
        raise ScanError(
            f"The output has shape {tuple(output.shape)}, but the scan has {scan.shape}; give one of that shape."
        )
    if device is not None:
        network.to(device)

    digest, done, total = InputDigest(), 0, len(remaining)
    displayed = 0 if first is None else first
    read: deque[tuple[int, np.ndarray]] = deque()
    error: dict[str, Any] = {}
    with reused_buffers(), _executor(network, precision, batch, tile) as executor:
        while remaining or read:
            if remaining and executor.wants_more:
                chosen = nearest(remaining, displayed, executor.batch)
                remaining.difference_update(chosen)
                images = [np.asarray(scan.voxels[region_of(scan, along, i)]).squeeze(along) for i in chosen]
                read.extend(zip(chosen, images, strict=True))
                for note in executor.submit([intensity.to_network(image) for image in images]):
                    what = note or f"slice {done + 1} of {total}"
                    displayed = _latest(displayed, (yield Progress(done, total, what)))
                continue
            for values in executor.collect():
                check_finite(values, precision)
                index, image = read.popleft()
                digest.add(index, image)
                restored, region = in_units(values, image, intensity, network), region_of(scan, along, index)
                output[region] = np.expand_dims(as_dtype(restored, image, output.dtype), along)
                done += 1
                displayed = _latest(displayed, (yield Progress(done, total, f"slice {done} of {total}", region)))
            if precision != EXACT and not error:
                for found in _errors(image, restored, network, intensity, tile):
                    displayed = _latest(displayed, (yield Progress(done, total, "comparing with float32")))
                    error = {"slice": index, **found}
        execution = executor.report()
    how = {
        **told_mode(tile, *image.shape),
        KEEPS_MEASURED: keeps_measured(network),
        "precision": precision,
        **({"precision_error": error} if error else {}),
        "execution": execution,
    }
    record = provenance(network, intensity, chosen_axis, total, digest, **how)
    return scan.with_voxels(output, metadata={**scan.metadata, "restoration": record})


def _executor(network: nn.Module, precision: str, batch: int | None = None, tile: Tile | None = None) -> Executor:
    device = next(network.parameters(), torch.empty(0)).device
    return Executor(converted(network, precision), machine_for(device), batch, tile=tile)


def _errors(
    image: np.ndarray, restored: np.ndarray, network: nn.Module, rule: IntensityRule, tile: Tile | None
) -> Iterator[dict[str, Any]]:
    """Restore the (Y, X) image in float32, stopping as `Executor.submit` does; the last value is how far it is off."""
    try:
        with _executor(network, EXACT, tile=tile) as executor:
            for _ in executor.submit([rule.to_network(image)]):
                yield {}
            [values] = executor.collect()
    except DeviceError as error:
        # Who asked for fewer digits may have done so because float32 does not fit.
        yield {"unknown": str(error)}
    else:
        yield deviation(restored, in_units(values, image, rule, network), rule.unit)


def _latest(displayed: int, sent: int | None) -> int:
    return displayed if sent is None else sent
