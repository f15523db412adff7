"""Measures of PET: recovery of hot spheres, SUVmax, SUVpeak, background variability (NEMA NU 2, EARL).

Slices are two-dimensional here: a sphere is its central cross-section, a disc, and regions are discs as well.
"""

from __future__ import annotations

import numpy as np

# Of a sphere of 1 cm^3.
PEAK_DIAMETER_MM = 12.407


def recovery(image: np.ndarray, region: np.ndarray, truth: float) -> float:
    """Recovery coefficient: the mean over a region (mask) divided by the true uptake; 1 if nothing is lost."""
    return float(image[region].mean()) / truth


def suv_max(image: np.ndarray, region: np.ndarray) -> float:
    """Largest value in a region."""
    return float(image[region].max())


def suv_peak(image: np.ndarray, region: np.ndarray, pixel_mm: float) -> float:
    """Largest mean over a disc as wide as a sphere of 1 cm^3, among those centred on a pixel of the region.

    PERCIST (Wahl et al. 2009) takes the sphere; within one slice it is its central disc, of 12.4 mm.
    """
    reach = PEAK_DIAMETER_MM / 2 / pixel_mm
    along = np.arange(-int(reach), int(reach) + 1)
    offsets = [(dy, dx) for dy in along for dx in along if np.hypot(dy, dx) <= reach]
    padded = np.pad(np.asarray(image, np.float64), int(reach), mode="edge")
    rows, columns = np.nonzero(region)
    total = sum(padded[rows + dy + int(reach), columns + dx + int(reach)] for dy, dx in offsets)
    return float(np.max(total) / len(offsets))


def background_variability(image: np.ndarray, regions: list[np.ndarray]) -> float:
    """Standard deviation of the means of background regions of one size, over their mean (NEMA NU 2), as a fraction."""
    means = [float(image[region].mean()) for region in regions]
    return float(np.std(means, ddof=1) / np.mean(means))
