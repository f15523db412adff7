"""Maps of one slice of a scan, from the scan and the weights: what would be lost, and what depends on how it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..device import choose_device
from ..network.classical import load_restorer
from ..restoration.checks import card_modality
from ..restoration.context import uses_context
from ..restoration.intensity import choose_intensity
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


def map_lost_contrast(
    scan: Scan,
    weights: str | Path,
    index: int,
    probe: Probe,
    *,
    axis: str = "auto",
    device: str = "auto",
    any_modality: bool = False,
    noise: float | None = None,
    strength: float = 1.0,
    blend: Blend | None = None,
) -> Generator[Progress, None, ContrastMap]:
    """Map what survives of a faint disc in one slice; close the generator to cancel.

    Parameters
    ----------
    scan
        Only this slice and its neighbours are read, and a few more to measure noise and intensity.
    weights
        A task with shipped weights, ``"classical:TASK"``, or a file.
    index
        The slice along the axis, from 0.
    probe
        What is put into the slice.
    axis, device, any_modality, noise, strength
        As for `restore`.
    blend
        How the result is mixed with the slice afterwards; None for the result itself.

    Raises
    ------
    ScanError
        If the probe is too small for the pixels, or the slice has no room for it.
    CheckpointError, DeviceError
        As for `restore`.
    """
    number = choose_slice_axis(scan, axis).axis
    network = load_restorer(weights).to(choose_device(device))
    one, plan = _planned(scan, network, number, index, any_modality, noise, strength)
    rows, columns = (step for at, step in enumerate(scan.spacing_mm) if at != number)
    return (yield from contrast_map(one, network, plan, probe, (float(rows), float(columns)), blend))


def map_sensitivity(
    scan: Scan,
    weights: str | Path,
    index: int,
    *,
    axis: str = "auto",
    device: str = "auto",
    any_modality: bool = False,
    noise: float | None = None,
    strength: float = 1.0,
    blend: Blend | None = None,
) -> Generator[Progress, None, Sensitivity]:
    """Map how much one slice of a result depends on how it lies; parameters and errors as of `map_lost_contrast`."""
    number = choose_slice_axis(scan, axis).axis
    network = load_restorer(weights).to(choose_device(device))
    one, plan = _planned(scan, network, number, index, any_modality, noise, strength)
    return (yield from sensitivity(one, network, plan, blend))


def _planned(
    scan: Scan,
    network: nn.Module,
    axis: int,
    index: int,
    any_modality: bool,
    noise: float | None,
    strength: float,
) -> tuple[Slice, Plan]:
    """Return a slice with its neighbours, and how `restore` would go about it."""
    intensity = choose_intensity(scan, None if any_modality else scan.modality or card_modality(network))
    known = known_noise(scan, network, axis, noise)
    [one] = ScanSource(scan, axis, [index], neighbours=uses_context(network)).take(1)
    return one, Plan(intensity, known, strength=strength, modality=scan.modality)
