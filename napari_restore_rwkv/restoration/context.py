"""What a network is given besides the slice that it restores: the neighbouring slices, and the noise of the scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..network.model import NOISE_LEVEL_SCALE, UNKNOWN_NOISE
from ..network.restorer import Restorer

if TYPE_CHECKING:
    from torch import nn

    from .intensity import IntensityRule
    from .source import Slice


def uses_context(network: nn.Module) -> bool:
    """Whether a network uses the neighbours of a slice, and its noise."""
    return isinstance(network, Restorer) and network.context > 0


def network_input(one: Slice, network: nn.Module, intensity: IntensityRule, noise: float | None) -> np.ndarray:
    """Return what a network is given for a slice, float32: (Y, X), or (C, Y, X) for one with context.

    Parameters
    ----------
    noise
        Standard deviation of the noise in the unit of the scan; None if unknown.
    """
    if not uses_context(network):
        return intensity.to_network(one.image)
    images = [intensity.to_network(image) for image in (one.image, one.below, one.above)]
    level = UNKNOWN_NOISE
    if noise is not None:
        level = NOISE_LEVEL_SCALE * noise / (intensity.high - intensity.low)
    return np.stack([*images, np.full_like(images[0], level)])
