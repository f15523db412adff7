"""Data consistency: maps the network's values back to those of the scan, in agreement with what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..network.checkpoint import KEEPS_MEASURED
from ..network.restorer import card_of
from .kspace import measured_extent, with_measured
from .non_negative import non_negative

# Activity and magnitude cannot be negative.
_NEVER_NEGATIVE = ("PET", "MR")

if TYPE_CHECKING:
    from torch import nn

    from .intensity import IntensityRule


def in_units(values: np.ndarray, image: np.ndarray, intensity: IntensityRule, network: nn.Module) -> np.ndarray:
    """Map what the network returned for a slice back to the unit of the scan.

    If the card of the network says so, the measured frequencies of a zero-filled MR slice are put back. Activity and
    magnitude that were not negative stay so; their mean is that of the network's result.

    Parameters
    ----------
    values
        Output of the network, shape (Y, X), finite.
    image
        The input slice, shape (Y, X), in the unit of `intensity`.
    intensity
        How values map to the network's range.
    network
        The network, with its card if it has one.

    Returns
    -------
    ndarray
        Shape (Y, X), float32. Values outside the window, NaN and infinities are those of the slice.
    """
    restored = intensity.from_network(values, image)
    inside = (image >= intensity.low) & (image <= intensity.high)
    if keeps_measured(network) and intensity.modality == "MR" and np.isfinite(image).all():
        extent = measured_extent(image)
        if extent is not None:
            restored = np.where(inside, with_measured(restored, image, extent), restored)
    if intensity.modality in _NEVER_NEGATIVE:
        known = inside & (image >= 0)
        restored[known] = non_negative(restored[known])
    return restored


def keeps_measured(network: nn.Module) -> bool:
    """Whether the card of the network asks for the measured frequencies to be put back."""
    return bool(card_of(network).details.get(KEEPS_MEASURED, False))
