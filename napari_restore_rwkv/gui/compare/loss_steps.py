"""What a map of losses takes: the network of a result again, and its slice with neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..restore import steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ...reliability.contrast_map import ContrastMap, Probe
    from ..options import RestoreOptions
    from ..restore.result import RestorationResult


def loss_steps(
    options: RestoreOptions, result: RestorationResult, index: int, strength: float, probe: Probe
) -> Generator[Progress, None, ContrastMap]:
    """Map what survives of a probe in one slice of a result, restored with the same choices; off the GUI thread.

    Parameters
    ----------
    options, result
        How the result was made.
    index
        The slice along its axis.
    strength
        How strongly it is mixed in, 0 to 1.

    Raises
    ------
    ScanError
        If the probe is too small for the pixels, or the slice has no room for it.
    """
    from ...device import choose_device
    from ...reliability.contrast_map import contrast_map
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
    plan = Plan(intensity, noise, strength=strength * result.applied, modality=scan.modality)
    [one] = ScanSource(scan, axis, [index], neighbours=uses_context(network)).take(1)
    rows, columns = (step for at, step in enumerate(scan.spacing_mm) if at != axis)
    return (yield from contrast_map(one, network, plan, probe, (float(rows), float(columns))))
