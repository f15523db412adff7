"""Activity and magnitude are never negative; nor may their restored values be."""

from __future__ import annotations

import numpy as np


def non_negative(values: np.ndarray) -> np.ndarray:
    """Return the nearest non-negative values that have the same mean.

    The Euclidean projection onto {y >= 0, sum y = sum x} is y = max(x - t, 0), with the threshold t for which the sum
    fits (Held, Wolfe & Crowder, Math. Program. 6, 1974). Setting negative values to zero alone would raise the mean.

    Parameters
    ----------
    values
        Finite values of any shape. If their sum is negative there are no such values, and all become 0.

    Returns
    -------
    ndarray
        float32 of the same shape; the same values if none was negative.
    """
    flat = np.asarray(values, np.float64).ravel()
    if not (flat < 0).any():
        return np.asarray(values, np.float32)
    total = flat.sum()
    if total <= 0:
        return np.zeros(np.shape(values), np.float32)
    # With the k largest values left, t is their excess, divided equally among them.
    descending = np.sort(flat)[::-1]
    thresholds = (np.cumsum(descending) - total) / np.arange(1, flat.size + 1)
    kept = np.flatnonzero(descending > thresholds)[-1]
    return np.maximum(flat - thresholds[kept], 0).astype(np.float32).reshape(np.shape(values))
