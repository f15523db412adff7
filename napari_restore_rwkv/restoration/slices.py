"""Slices through a network: the one loop that the array in memory, the file job and the cluster's worker share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import DeviceError
from ..network.model import NOISE_LEVEL_SCALE, UNKNOWN_NOISE, RestoreRWKV
from .checks import check_finite
from .consistency import in_units
from .executor import Executor
from .machine import machine_for
from .memory import reused_buffers
from .precision import EXACT, converted, deviation

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import nn

    from ..scans.intensity import IntensityRule
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
        Standard deviation of the scan's noise in its unit, for networks that want to know it; None where it is unknown.
    precision
        "float32", or fewer digits: "bfloat16", "float16".
    batch
        Slices that a GPU works on together, at most; None leaves it to their size and the free memory.
    tile
        Cut larger slices into tiles of this size, for an approximate result; None takes them whole.
    """

    intensity: IntensityRule
    noise: float | None = None
    precision: str = EXACT
    batch: int | None = None
    tile: Tile | None = None

    def to_network(self, one: Slice, network: nn.Module) -> np.ndarray:
        """Return what a network is given for a slice, float32: (Y, X), or (C, Y, X) for one with context."""
        if not uses_context(network):
            return self.intensity.to_network(one.image)
        images = [self.intensity.to_network(image) for image in (one.image, one.below, one.above)]
        level = UNKNOWN_NOISE
        if self.noise is not None:
            level = NOISE_LEVEL_SCALE * self.noise / (self.intensity.high - self.intensity.low)
        return np.stack([*images, np.full_like(images[0], level)])


@dataclass(frozen=True, slots=True)
class Restored:
    """A slice that has come back.

    Attributes
    ----------
    index
        Its place along the slice axis.
    image, values
        Shape (Y, X): the voxels as they were, and restored, float32, both in the unit of the scan.
    """

    index: int
    image: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, slots=True)
class Working:
    """A step inside a slice, or inside a batch of them; `note` says what is unusual about it, if anything."""

    note: str = ""


def uses_context(network: nn.Module) -> bool:
    """Whether a network wants to see the neighbours of a slice, and to know its noise."""
    return isinstance(network, RestoreRWKV) and network.context > 0


def restore_slices(
    source: SliceSource, network: nn.Module, plan: Plan
) -> Generator[Restored | Working, None, dict[str, Any]]:
    """Restore every slice of a source; the value of StopIteration says how the work was done, as plain values.

    Raises
    ------
    CheckpointError
        If the network returns values that are not numbers.
    DeviceError
        If the device runs out of memory with a single slice, or the precision is unknown.
    """
    under_way: deque[Slice] = deque()
    error: dict[str, Any] = {}
    with reused_buffers(), executor_for(network, plan) as executor:
        while source.remaining or under_way:
            if source.remaining and executor.wants_more:
                taken = source.take(executor.batch)
                under_way.extend(taken)
                for note in executor.submit([plan.to_network(one, network) for one in taken]):
                    yield Working(note)
                continue
            for values in executor.collect():
                check_finite(values, plan.precision)
                one = under_way.popleft()
                restored = in_units(values, one.image, plan.intensity, network)
                yield Restored(one.index, one.image, restored)
            if plan.precision != EXACT and not error:
                for found in _errors(one, restored, network, plan):
                    yield Working("comparing with float32")
                    error = {"slice": one.index, **found}
        execution = executor.report()
    return {"precision": plan.precision, **({"precision_error": error} if error else {}), "execution": execution}


def executor_for(network: nn.Module, plan: Plan) -> Executor:
    """Return what runs a network on the device that it is on."""
    device = next(network.parameters(), torch.empty(0)).device
    return Executor(converted(network, plan.precision), machine_for(device), plan.batch, tile=plan.tile)


def _errors(one: Slice, restored: np.ndarray, network: nn.Module, plan: Plan) -> Iterator[dict[str, Any]]:
    """Restore a slice in float32, stopping as `Executor.submit` does; the last value is how far it is off."""
    try:
        with executor_for(network, Plan(plan.intensity, plan.noise, tile=plan.tile)) as executor:
            for _ in executor.submit([plan.to_network(one, network)]):
                yield {}
            [values] = executor.collect()
    except DeviceError as error:
        # Who asked for fewer digits may have done so because float32 does not fit.
        yield {"unknown": str(error)}
    else:
        yield deviation(restored, in_units(values, one.image, plan.intensity, network), plan.intensity.unit)
