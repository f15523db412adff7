"""A small scan with something to learn from: shapes that change slowly along z, and noise that does not."""

import numpy as np

from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.training.options import FineTuneOptions

# Seconds, not minutes: small crops, a high rate.
QUICK = FineTuneOptions(steps=30, learning_rate=8e-3, score_every=10, crops=((16, 4),), device="cpu")


def clean_scan(slices=16, side=32, seed=3):
    """Ellipses of -80 to 180 HU in a body of 40 HU, int16."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:slices, :side, :side]
    voxels = np.full((slices, side, side), 40.0)
    for _ in range(12):
        at_y, at_x, at_z = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0, slices)
        reach = rng.uniform(2, side / 4)
        inside = (y - at_y) ** 2 + (x - at_x) ** 2 + ((z - at_z) * side / slices / 2) ** 2 < reach**2
        voxels[inside] = rng.uniform(-80, 180)
    return scan_of(voxels)


def scan_of(voxels, **changes):
    known = {"spacing_mm": (3.0, 1.0, 1.0), "modality": "CT", "unit": "HU", **changes}
    return Scan(np.asarray(voxels).round().astype(np.int16), **known)


def noisy_scan(clean, deviation=50.0, seed=4):
    noise = np.random.default_rng(seed).normal(0, deviation, clean.shape)
    return scan_of(clean.voxels + noise, spacing_mm=clean.spacing_mm)


def everything(steps):
    """All records of a generator, and its result."""
    records = []
    while True:
        try:
            records.append(next(steps))
        except StopIteration as end:
            return records, end.value
