"""Checks before a restoration begins, with clear messages for what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError, DeviceError, ScanError
from ..network.restorer import card_of
from ..scans.scan import LARGEST_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from ..scans.scan import Scan


def check_voxels(voxels: Any, dimensions: int) -> None:
    """Raise ScanError unless these are real numbers with this many dimensions; no voxels are read."""
    shape, dtype = tuple(voxels.shape), np.dtype(voxels.dtype)
    if len(shape) != dimensions:
        raise ScanError(
            f"A {'slice' if dimensions == 2 else 'scan'} must have {dimensions} dimensions; got shape {shape}. "
            "Choose one time frame or channel."
        )
    if 0 in shape:
        raise ScanError(f"The scan is empty: its shape is {shape}.")
    if dtype.kind not in "iuf":
        raise ScanError(f"Voxels must be integers or real numbers, got {dtype}; convert the scan first.")


def check_modality(scan: Scan, network: nn.Module, any_modality: bool) -> None:
    """Raise CheckpointError if the weights are known to be for a modality other than the scan's."""
    made_for = card_of(network).modality
    if any_modality or None in (made_for, scan.modality) or made_for == scan.modality:
        return
    raise CheckpointError(
        f"These weights were made for {made_for}, but this scan is {scan.modality}; "
        f"choose weights for {scan.modality}, or allow any modality."
    )


def checked_indices(indices: Iterable[int] | None, size: int) -> set[int]:
    """Return the chosen slices, None meaning all; raises ScanError for an empty choice or a nonexistent slice."""
    chosen = set(range(size)) if indices is None else set(indices)
    if not chosen:
        raise ScanError("No slice was chosen; choose at least one.")
    if min(chosen) < 0 or max(chosen) >= size:
        raise ScanError(f"Slices run from 0 to {size - 1}; got {min(chosen)} to {max(chosen)}.")
    return chosen


def check_batch(batch: int | None) -> None:
    """Raise DeviceError for a batch without slices."""
    if batch is not None and batch < 1:
        raise DeviceError(f"A batch must hold at least one slice; got {batch}.")


def check_range(values: np.ndarray) -> None:
    """Raise ScanError if finite values of a scan come near the limit of float32."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    if largest > LARGEST_VALUE:
        raise ScanError(
            f"The scan contains values as large as {largest:.3g}, and those beyond {LARGEST_VALUE:.0e} cannot be "
            "restored; divide its values by a constant first."
        )


def check_image(image: np.ndarray) -> None:
    """Raise ScanError if values of a slice would become infinite in its result, which is float32."""
    if image.dtype.itemsize > np.dtype(np.float32).itemsize:
        check_range(image)


def check_finite(values: np.ndarray, precision: str) -> None:
    """Raise CheckpointError if a network's result is not finite."""
    if np.isfinite(values).all():
        return
    remedy = (
        "use other weights"
        if precision == "float32"
        else f"{precision} may be too narrow for these weights: use float32, or other weights"
    )
    raise CheckpointError(f"The network returned NaN or infinite values, so nothing was changed; {remedy}.")
