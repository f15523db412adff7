"""Faint discs and rods that are added to slices, so that a network learns to keep faint objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CONTRASTS_HU, RADII = (3.0, 60.0), (1.5, 12.0)
_MOST = 4
_EDGE = 0.8  # width of the edge of a probe in pixels: that of a point spread function
# Soft tissue, into which probes are inserted.
_TISSUE_HU = (-150.0, 250.0)
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Probes:
    """Faint objects in a slice.

    Attributes
    ----------
    signal
        What they add, shape (Y, X), float32, in HU.
    labels
        Number of the probe that a pixel belongs to, from 1, shape (Y, X), int16; 0 elsewhere.
    visibility
        For each probe its contrast times its radius in pixels over the noise: how much it stands out.
    """

    signal: np.ndarray
    labels: np.ndarray
    visibility: tuple[float, ...]


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float, edge: float = _EDGE) -> np.ndarray:
    """Return a disc of height 1 with a smooth edge, float32 of `shape`; centre, radius and edge in pixels (y, x)."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return (1 / (1 + np.exp(((distance - radius) / (edge / 2)).clip(-30, 30)))).astype(np.float32)


def random_probes(image: np.ndarray, noise_hu: float, rng: np.random.Generator) -> Probes:
    """Draw up to four probes that do not overlap, inside the soft tissue of a clean slice (Y, X) in HU."""
    signal, labels = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.int16)
    visibility: list[float] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        radius = float(np.exp(rng.uniform(*np.log(RADII))))
        contrast = float(np.exp(rng.uniform(*np.log(CONTRASTS_HU))))
        centre = _place(image, labels, radius, rng)
        if centre is None:
            continue
        shape = disc(image.shape, centre, radius)
        signal += np.float32(contrast * rng.choice((-1, 1))) * shape
        visibility.append(contrast * radius / max(noise_hu, 1.0))
        labels[shape > 0.05] = len(visibility)
    return Probes(signal, labels, tuple(visibility))


def _place(image: np.ndarray, taken: np.ndarray, radius: float, rng: np.random.Generator) -> tuple[float, float] | None:
    margin = radius + 2
    if min(image.shape) <= 2 * margin:
        return None
    for _ in range(_TRIES):
        y, x = (float(rng.uniform(margin, length - 1 - margin)) for length in image.shape)
        box = np.s_[int(y - margin) : int(y + margin) + 1, int(x - margin) : int(x + margin) + 1]
        if _TISSUE_HU[0] < image[int(y), int(x)] < _TISSUE_HU[1] and not taken[box].any():
            return y, x
    return None
