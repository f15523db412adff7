"""A slice of a result through its network again, with the same choices; off the GUI thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..restore import steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ...progress import Progress
    from ...reliability.contrast_map import ContrastMap, Probe
    from ...reliability.sensitivity import Sensitivity
    from ...restoration.detail import Blend
    from ...restoration.slices import Plan
    from ...restoration.source import Slice
    from ..options import RestoreOptions
    from ..restore.result import RestorationResult


def loss_steps(
    options: RestoreOptions, result: RestorationResult, index: int, blend: Blend, probe: Probe
) -> Generator[Progress, None, ContrastMap]:
    """Map what survives of a probe in one slice of a result; see `_again` for the rest.

    Raises
    ------
    ScanError
        If the probe is too small for the pixels, or the slice has no room for it.
    """
    from ...reliability.contrast_map import contrast_map

    one, network, plan = _again(options, result, index)
    rows, columns = (step for at, step in enumerate(result.scan.spacing_mm) if at != result.axis)
    return (yield from contrast_map(one, network, plan, probe, (float(rows), float(columns)), blend))


def sensitivity_steps(
    options: RestoreOptions, result: RestorationResult, index: int, blend: Blend
) -> Generator[Progress, None, Sensitivity]:
    """Map how much one slice of a result depends on how it lies; see `_again` for the rest."""
    from ...reliability.sensitivity import sensitivity

    return (yield from sensitivity(*_again(options, result, index), blend))


def _again(options: RestoreOptions, result: RestorationResult, index: int) -> tuple[Slice, nn.Module, Plan]:
    """Return a slice with its neighbours, the network of a result, and how it was restored.

    Parameters
    ----------
    options, result
        How the result was made.
    index
        The slice along its axis.
    """
    from ...device import choose_device
    from ...restoration.checks import card_modality
    from ...restoration.context import uses_context
    from ...restoration.intensity import choose_intensity
    from ...restoration.noise import known_noise
    from ...restoration.slices import Plan
    from ...restoration.source import ScanSource

    scan, axis = result.scan, result.axis
    # Its own copy: the other one may be restoring at this moment.
    network = steps.fresh_network(options.weights)
    network.to(choose_device(options.device))
    intensity = choose_intensity(scan, None if options.any_modality else scan.modality or card_modality(network))
    noise = known_noise(scan, network, axis, result.provenance.get("noise"))
    plan = Plan(intensity, noise, strength=result.applied, modality=scan.modality)
    [one] = ScanSource(scan, axis, [index], neighbours=uses_context(network)).take(1)
    return one, network, plan
