"""Maps of one slice of a scan, from scan and weights: what would be lost, and what depends on its orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

from ..device import choose_device
from ..network.classical import load_restorer
from ..restoration.context import uses_context
from ..restoration.intensity import rule_for
from ..restoration.noise import known_noise
from ..restoration.slices import Plan
from ..restoration.source import ScanSource
from ..scans.slice_axis import choose_slice_axis
from .contrast_map import contrast_map
from .sensitivity import sensitivity

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from torch import nn

    from ..progress import Progress
    from ..restoration.detail import Blend
    from ..restoration.source import Slice
    from ..scans.scan import Scan
    from .contrast_map import ContrastMap, Probe
    from .sensitivity import Sensitivity


class MadeAs(TypedDict, total=False):
    """How a result was made: `axis`, `device`, `any_modality`, `noise`, `strength` as for `restore`.

    `blend` is how it is mixed with its input afterwards; None, or left out, for the result itself.
    """

    axis: str
    device: str
    any_modality: bool
    noise: float | None
    strength: float
    blend: Blend | None


def map_lost_contrast(
    scan: Scan, weights: str | Path, index: int, probe: Probe, **made: Unpack[MadeAs]
) -> Generator[Progress, None, ContrastMap]:
    """Map how much of a faint disc survives in one slice; close the generator to cancel.

    Parameters
    ----------
    scan
        Only this slice and its neighbours are read, and a few more to measure noise and intensity.
    weights
        A task with shipped weights, ``"classical:TASK"``, or a file.
    index
        The slice along the axis, from 0.
    probe
        The disc inserted into the slice.
    made
        See `MadeAs`.

    Raises
    ------
    ScanError
        If the probe is too small for the pixels, or the slice is too small for it.
    CheckpointError, DeviceError
        As for `restore`.
    """
    axis = choose_slice_axis(scan, made.get("axis", "auto")).axis
    one, network, plan = _planned(scan, weights, axis, index, made)
    rows, columns = (step for at, step in enumerate(scan.spacing_mm) if at != axis)
    return (yield from contrast_map(one, network, plan, probe, (float(rows), float(columns)), made.get("blend")))


def map_sensitivity(
    scan: Scan, weights: str | Path, index: int, **made: Unpack[MadeAs]
) -> Generator[Progress, None, Sensitivity]:
    """Map how much a slice of a result depends on its orientation; parameters and errors as for `map_lost_contrast`."""
    axis = choose_slice_axis(scan, made.get("axis", "auto")).axis
    return (yield from sensitivity(*_planned(scan, weights, axis, index, made), made.get("blend")))


def _planned(scan: Scan, weights: str | Path, axis: int, index: int, made: MadeAs) -> tuple[Slice, nn.Module, Plan]:
    """Return a slice with its neighbours, a separate network, and the plan that `restore` would use."""
    network = load_restorer(weights).to(choose_device(made.get("device", "auto")))
    rule = rule_for(scan, network, made.get("any_modality", False))
    noise = known_noise(scan, network, axis, made.get("noise"))
    [one] = ScanSource(scan, axis, [index], neighbours=uses_context(network)).take(1)
    return one, network, Plan(rule, noise, strength=made.get("strength", 1.0), modality=scan.modality)
