"""Maps of FDG uptake, in SUV, from anatomy: tissue by tissue, with hot lesions at random places.

Uptake differs from patient to patient, so every call draws its own values around those usual an hour after injection.
Volumes and slices of any shape are accepted; all randomness comes from the generator that is passed in.
"""

from __future__ import annotations

import numpy as np

# Labels of the TotalSegmentator organ map (version 2) with their usual SUV; ranges are (first, last), inclusive.
ORGAN_SUV = {
    (1, 1): 1.9,  # spleen
    (2, 3): 3.5,  # kidneys
    (4, 4): 0.8,  # gall bladder
    (5, 5): 2.3,  # liver
    (6, 7): 1.7,  # stomach, pancreas
    (8, 9): 1.4,  # adrenal glands
    (10, 14): 0.5,  # lungs
    (15, 16): 1.2,  # oesophagus, trachea
    (17, 17): 1.5,  # thyroid
    (18, 20): 1.8,  # bowel
    (21, 21): 12.0,  # bladder
    (22, 22): 1.7,  # prostate
    (23, 24): 0.9,  # cysts of the kidneys
    (25, 50): 1.6,  # sacrum and vertebrae, red marrow
    (51, 51): 3.0,  # heart
    (52, 68): 1.7,  # vessels
    (69, 78): 0.9,  # long bones, shoulder blades, hips
    (79, 79): 1.5,  # spinal cord
    (80, 89): 0.8,  # muscles
    (90, 90): 7.0,  # brain
    (91, 117): 0.9,  # skull, ribs, breastbone, cartilage
}
GREY_MATTER_SUV, WHITE_MATTER_SUV = 8.0, 2.5
FAT_SUV, LUNG_SUV, SOFT_SUV, BONE_SUV = 0.3, 0.5, 0.9, 1.4
WATER_PER_MM = 0.0096  # attenuation at 511 keV

_SPREAD = 0.25


def organ_activity(labels: np.ndarray, hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SUV of a labelled CT: organs by `ORGAN_SUV`, the rest of the body by its HU; float32 in the shape of both."""
    activity = tissue_activity(hu, rng)
    for (first, last), suv in ORGAN_SUV.items():
        for label in range(first, last + 1):
            value = suv * _random_factor(rng)
            activity[labels == label] = value
    return activity


def tissue_activity(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SUV of an unlabelled CT: air, lung, fat, soft tissue and bone by HU; float32 in the shape of `hu`."""
    bounds = (-950.0, -400.0, -30.0, 200.0)
    values = np.array(
        [0.0] + [suv * _random_factor(rng) for suv in (LUNG_SUV, FAT_SUV, SOFT_SUV, BONE_SUV)], np.float32
    )
    return values[np.digitize(hu, bounds)]


def brain_activity(grey: np.ndarray, white: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SUV of a brain from the fractions of grey and white matter, 0 to 1; float32 in their shape."""
    return (grey * (GREY_MATTER_SUV * _random_factor(rng)) + white * (WHITE_MATTER_SUV * _random_factor(rng))).astype(
        np.float32
    )


def textured(activity: np.ndarray, pixel_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Uptake that varies within organs: times 1 +- about 15 %, smoothly over some 25 mm; for slices (Y, X)."""
    height, width = activity.shape
    fy, fx = np.fft.fftfreq(height, pixel_mm)[:, None], np.fft.rfftfreq(width, pixel_mm)
    smooth = np.exp(-2 * (np.pi * 10) ** 2 * (fy**2 + fx**2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * smooth, s=(height, width))
    return (activity * (1 + 0.15 * field / field.std()).clip(0.4, 1.6)).astype(np.float32)


def with_lesions(
    activity: np.ndarray, pixel_mm: float, rng: np.random.Generator, most: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Insert up to `most` hot discs, 8 to 37 mm across, SUV 4 to 15, at random positions in the body of a slice (Y, X).

    Returns
    -------
    tuple
        The activity with the lesions, and a map of the lesion that each pixel belongs to, from 1; 0 elsewhere.
    """
    hot, lesions = activity.copy(), np.zeros(activity.shape, np.int16)
    body = np.argwhere(activity > 0.1)
    if len(body) == 0:
        return hot, lesions
    y, x = np.indices(activity.shape)
    for number in range(1, int(rng.integers(0, most + 1)) + 1):
        centre = body[rng.integers(len(body))] + rng.uniform(-0.5, 0.5, 2)
        radius = np.exp(rng.uniform(np.log(4), np.log(18.5))) / pixel_mm
        inside = np.hypot(y - centre[0], x - centre[1]) < radius
        hot[inside] = np.exp(rng.uniform(np.log(4), np.log(15)))
        lesions[inside] = number
    return hot, lesions


def attenuation(hu: np.ndarray) -> np.ndarray:
    """Linear attenuation at 511 keV per mm from HU: as water up to 0 HU, half as steep in bone."""
    scaled = np.where(hu <= 0, 1 + hu / 1000, 1 + hu / 2000)
    return (WATER_PER_MM * scaled.clip(0, 2)).astype(np.float32)


def _random_factor(rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(0, _SPREAD)))
