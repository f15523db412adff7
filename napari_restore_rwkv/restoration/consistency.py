"""From the network's values back to those of the scan, with the measured centre of k-space where weights ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..network.checkpoint import KEEPS_MEASURED
from ..scans.kspace import measured_extent, with_measured

if TYPE_CHECKING:
    from torch import nn

    from ..scans.intensity import IntensityRule


def in_units(values: np.ndarray, image: np.ndarray, intensity: IntensityRule, network: nn.Module) -> np.ndarray:
    """Map what the network returned for a slice back to the unit of the scan.

    Where the card of the network says so, the measured frequencies of a zero-filled MR slice are put back.

    Parameters
    ----------
    values
        Output of the network, shape (Y, X), finite.
    image
        The slice that went in, shape (Y, X), in the unit of `intensity`.
    intensity
        How values map to the network's range.
    network
        The network with its card, if it has one.

    Returns
    -------
    ndarray
        Shape (Y, X), float32. Values outside the window, NaN and infinities are those of the slice.
    """
    restored = intensity.from_network(values, image)
    if not (keeps_measured(network) and intensity.name.startswith("mr") and np.isfinite(image).all()):
        return restored
    extent = measured_extent(image)
    if extent is None:
        return restored
    consistent = with_measured(restored, image, extent)
    inside = (image >= intensity.low) & (image <= intensity.high)
    return np.where(inside, consistent, restored)


def keeps_measured(network: nn.Module) -> bool:
    """Whether the card of the network asks for the measured frequencies to be put back."""
    details = getattr(getattr(network, "card", None), "details", {})
    return bool(details.get(KEEPS_MEASURED, False))
