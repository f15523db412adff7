"""Runs slices through a network: the one loop shared by in-memory arrays, file jobs and cluster workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DeviceError, ScanError
from ..network.restorer import device_of
from ..progress import Phase
from .checks import check_finite, check_image
from .context import network_input
from .data_consistency import in_units
from .executor import Executor
from .machine import machine_for
from .memory import reused_buffers
from .noise import limited_removal, share_to_remove
from .precision import EXACT, converted, deviation

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import nn

    from .intensity import IntensityRule
    from .source import Slice, SliceSource
    from .tiles import Tile


@dataclass(frozen=True, slots=True)
class Plan:
    """How slices are restored.

    Attributes
    ----------
    intensity
        How values map to the network's range.
    noise
        Standard deviation of the scan's noise in its unit, for networks that use it; None if unknown.
    precision
        "float32", or lower precision: "bfloat16", "float16".
    batch
        Maximum number of slices that a GPU processes together; None lets their size and the free memory decide.
    tile
        Cut larger slices into tiles of this size, for an approximate result; None processes them whole.
    strength
        Fraction of the change that is applied, 0 to 1.
    modality
        Of the scan; None if unknown.

    Raises
    ------
    ScanError
        If the strength is out of range.
    """

    intensity: IntensityRule
    noise: float | None = None
    precision: str = EXACT
    batch: int | None = None
    tile: Tile | None = None
    strength: float = 1.0
    modality: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ScanError(f"The strength of a restoration must be 0 to 1; got {self.strength:g}.")


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored slice.

    Attributes
    ----------
    index
        Its position along the slice axis.
    image, values
        Shape (Y, X): the voxels before and after restoration, the latter float32, both in the unit of the scan.
    """

    index: int
    image: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Working:
    """A step inside a slice, or inside a batch of them; `note` says if and how less memory is used."""

    phase: Phase = Phase.RESTORING
    note: str = ""


def restore_slices(
    source: SliceSource, network: nn.Module, plan: Plan
) -> Generator[Restored | Working, None, dict[str, Any]]:
    """Restore every slice of a source; the value of StopIteration says how the work was done, as plain values.

    Raises
    ------
    ScanError
        If a value of a slice exceeds float32.
    CheckpointError
        If the network returns NaN or infinite values.
    DeviceError
        If the device runs out of memory with a single slice, or the precision is unknown.
    """
    under_way: deque[Slice] = deque()
    error: dict[str, Any] = {}
    with reused_buffers(), executor_for(network, plan) as executor:
        while source.remaining or under_way:
            if source.remaining and executor.wants_more:
                taken = source.take(executor.batch)
                for one in taken:
                    check_image(one.image)
                under_way.extend(taken)
                for note in executor.submit([network_input(one, network, plan.intensity, plan.noise) for one in taken]):
                    yield Working(Phase.SHORT_OF_MEMORY if note else Phase.RESTORING, note)
                continue
            for values in executor.collect():
                check_finite(values, plan.precision)
                one = under_way.popleft()
                restored = result_of(values, one.image, network, plan)
                yield Restored(one.index, one.image, restored)
            if plan.precision != EXACT and not error:
                for found in _errors(one, restored, network, plan):
                    yield Working(Phase.COMPARING_PRECISION)
                    error = {"slice": one.index, **found}
        execution = executor.report()
    return {"precision": plan.precision, **({"precision_error": error} if error else {}), "execution": execution}


def result_of(values: np.ndarray, image: np.ndarray, network: nn.Module, plan: Plan) -> np.ndarray:
    """Return a restored slice (Y, X), float32, in the unit of the scan, from the network's output."""
    restored = in_units(values, image, plan.intensity, network)
    if plan.noise is not None:
        restored = limited_removal(image, restored, plan.noise, plan.modality)
    part = plan.strength * share_to_remove(network, plan.noise)
    if part == 1:
        return restored
    change = restored - image.astype(np.float32)
    return np.where(np.isfinite(change), restored + np.float32(part - 1) * change, restored)


def executor_for(network: nn.Module, plan: Plan) -> Executor:
    """Return an executor that runs a network on its current device."""
    return Executor(converted(network, plan.precision), machine_for(device_of(network)), plan.batch, tile=plan.tile)


def _errors(one: Slice, restored: np.ndarray, network: nn.Module, plan: Plan) -> Iterator[dict[str, Any]]:
    """Restore a slice in float32, yielding as `Executor.submit` does; the last value is the deviation from it."""
    try:
        with executor_for(network, replace(plan, precision=EXACT, batch=None)) as executor:
            for _ in executor.submit([network_input(one, network, plan.intensity, plan.noise)]):
                yield {}
            [values] = executor.collect()
    except DeviceError as error:
        # Lower precision may have been chosen because float32 does not fit.
        yield {"unknown": str(error)}
    else:
        yield deviation(restored, result_of(values, one.image, network, plan), plan.intensity.unit)
