"""Other contrasts from one image: turns a few T1 heads into the many appearances of MRI.

All functions take float32 images of shape (Y, X) with values from 0 to 1 and return such images.
"""

from __future__ import annotations

import numpy as np

_KNOTS = 5
_TABLE = 1024


def random_contrast(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remap the grey values: not at all, by a power, or by a smooth curve through random knots, monotone or not."""
    kind = rng.choice(4, p=(0.2, 0.3, 0.15, 0.35))
    if kind == 0:
        return image
    if kind == 1:
        return image ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    knots = rng.uniform(0, 1, _KNOTS)
    if kind == 2:
        knots = np.sort(knots)
    if rng.random() < 0.75:
        # Dark stays dark, as air does in all but inverted images.
        knots[0] = 0.02 * rng.random()
    return _through_knots(image, knots)


def random_shading(image: np.ndarray, rng: np.random.Generator, strength: float = 0.35) -> np.ndarray:
    """Multiply by a slowly varying field, like that of coils: exp of a random plane plus a random saddle or bowl."""
    y, x = np.linspace(-1, 1, image.shape[0])[:, None], np.linspace(-1, 1, image.shape[1])[None, :]
    a, b, c, d, e = rng.uniform(-strength, strength, 5)
    field = np.exp(a * y + b * x + c * x * y + d * y**2 + e * x**2)
    return (image * (field / field.max())).astype(np.float32)


def _through_knots(image: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Cosine interpolation between even knots over 0..1: no overshoot, and no kinks that would look like edges."""
    at = np.linspace(0, len(knots) - 1, _TABLE)
    left = np.minimum(at.astype(int), len(knots) - 2)
    weight = 0.5 - 0.5 * np.cos(np.pi * (at - left))
    table = (knots[left] * (1 - weight) + knots[left + 1] * weight).astype(np.float32)
    return table[(image * (_TABLE - 1)).round().astype(int).clip(0, _TABLE - 1)]
