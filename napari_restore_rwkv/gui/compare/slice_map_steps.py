"""The network passes for the maps of one slice of a result, with the options of the result; off the GUI thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...scans.scan import AXES

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ...reliability.contrast_map import ContrastMap, Probe
    from ...reliability.sensitivity import Sensitivity
    from ...reliability.slice_maps import MadeAs
    from ...restoration.detail import Blend
    from ..options import RestoreOptions
    from ..restore.result import RestorationResult
    from .comparison import Comparison


def restoration_keywords(options: RestoreOptions, result: RestorationResult, blend: Blend) -> MadeAs:
    """Return how a result was made, and how it is mixed with its input."""
    return {
        "axis": AXES[result.axis],
        "device": options.device,
        "any_modality": options.any_modality,
        "noise": result.provenance.get("noise"),
        "strength": result.applied,
        "blend": blend,
    }


def lost_contrast_steps(
    options: RestoreOptions, comparison: Comparison, index: int, probe: Probe
) -> Generator[Progress, None, ContrastMap]:
    """Map how much contrast of a probe is left in one slice of a result."""
    from ...reliability.slice_maps import map_lost_contrast

    result = comparison.result
    made = restoration_keywords(options, result, comparison.blend)
    return map_lost_contrast(result.scan, options.weights, index, probe, **made)


def sensitivity_steps(
    options: RestoreOptions, comparison: Comparison, index: int
) -> Generator[Progress, None, Sensitivity]:
    """Map how much one restored slice depends on its orientation."""
    from ...reliability.slice_maps import map_sensitivity

    result = comparison.result
    return map_sensitivity(
        result.scan, options.weights, index, **restoration_keywords(options, result, comparison.blend)
    )
