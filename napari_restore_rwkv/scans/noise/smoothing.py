"""Means over small neighbourhoods of a slice."""

from __future__ import annotations

import numpy as np

from .flat_blocks import block_means


def box_mean(image: np.ndarray, radius: int = 3) -> np.ndarray:
    """Mean over (2 radius + 1)^2 pixels, mirrored at the border; float64 in the same shape."""
    padded = np.pad(np.asarray(image, np.float64), radius, mode="symmetric")
    return block_means(padded, 2 * radius + 1, 1)
