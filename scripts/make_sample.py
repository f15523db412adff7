"""Make the simulated scans of sample_data/: fewer photons, less resolution, fewer counts than in their references."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan, position_mm
from napari_restore_rwkv.simulate.activity import attenuation, textured, tissue_activity
from napari_restore_rwkv.simulate.ct import low_dose
from napari_restore_rwkv.simulate.pet import Acquisition, low_count
from napari_restore_rwkv.simulate.whole_scan import simulate

SAMPLES = Path(__file__).parent.parent / "sample_data"
SEED = 20
# The slices of the MNI152 template through the basal ganglia.
MR_SLICES = slice(78, 102)
# The slices of the CT from which the PET is made.
PET_SLICES = slice(6, 14)
# Pixels of the CT per pixel of the PET along each side.
COARSER = 4
LESIONS, LESION_MM, LESION_SUV = 6, (5.0, 12.0), (4.0, 9.0)
# Steps that the values are rounded to, far below their noise, so that they compress better.
PET_STEP, MR_STEP = 1 / 256, 1 / 64


def main() -> None:
    """Write the named samples, or all of them."""
    wanted = sys.argv[1:] or ["ct", "mr", "pet"]
    ct = read_scan(SAMPLES / "ct_abdomen_dicom")
    if "ct" in wanted:
        write_scan(quarter_dose(ct), SAMPLES / "ct_abdomen_quarter_dose.nii.gz")
    if "mr" in wanted:
        for scan, name in zip(mr(), ("half", "full"), strict=True):
            write_scan(scan, SAMPLES / f"mr_t1_{name}_resolution.nii.gz")
    if "pet" in wanted:
        for scan, name in zip(pet(_part(ct, PET_SLICES)), ("low", "full"), strict=True):
            write_scan(_rounded(scan, PET_STEP), SAMPLES / f"pet_{name}_count.nii.gz")


def quarter_dose(scan: Scan) -> Scan:
    """Return a CT as at a quarter of its dose, in the range of the scanner's own numbers."""
    slices = [low_dose(image, scan.spacing_mm[1], seed=SEED + i) for i, image in enumerate(scan.voxels)]
    voxels = np.rint(np.stack(slices)).clip(-1024, 3071).astype(np.int16)
    return scan.with_voxels(voxels, metadata={})


def mr() -> tuple[Scan, Scan]:
    """Return slices of the MNI152 template at half of their resolution, and as they are."""
    good = _part(read_scan(SAMPLES / "mr_t1_mni152.nii.gz", modality="MR"), MR_SLICES)
    low = finish(simulate(good.with_voxels(good.voxels.astype(np.float32)), "mri-sr", seed=SEED, strength=2))
    return _rounded(low, MR_STEP), good


def pet(ct: Scan) -> tuple[Scan, Scan]:
    """Return an FDG scan of the body in a CT from a twelfth of a million counts a slice, and from all of them; SUV."""
    rng = np.random.default_rng(SEED)
    spacing = (ct.spacing_mm[0], *(COARSER * side for side in ct.spacing_mm[1:]))
    hu = ct.voxels.astype(np.float32)
    uptake = _coarser(tissue_activity(hu, rng))
    uptake = with_spheres(np.stack([textured(image, spacing[1], rng) for image in uptake]), spacing, rng)
    images = low_count(uptake, spacing[1], Acquisition(), seed=SEED, attenuation=_coarser(attenuation(hu)))
    # Centre of the first, larger pixel.
    first = tuple(position_mm(ct, (0, (COARSER - 1) / 2, (COARSER - 1) / 2)))
    low, full = (
        Scan(
            voxels=image,
            spacing_mm=spacing,
            origin_mm=first,
            direction=ct.direction,
            modality="PET",
            unit="SUV",
        )
        for image in images
    )
    return low, full


def with_spheres(activity: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """Insert hot spheres at random positions in the body into a volume (z, y, x) of SUV."""
    hot, places = activity.copy(), np.argwhere(activity > 0.5)
    points = np.indices(activity.shape).reshape(3, -1).T * spacing
    for _ in range(LESIONS):
        centre = places[rng.integers(len(places))] * spacing
        inside = np.linalg.norm(points - centre, axis=1) < rng.uniform(*LESION_MM)
        hot[inside.reshape(activity.shape)] = rng.uniform(*LESION_SUV)
    return hot


def _coarser(volume: np.ndarray) -> np.ndarray:
    z, y, x = volume.shape
    blocks = volume.reshape(z, y // COARSER, COARSER, x // COARSER, COARSER)
    return blocks.mean(axis=(2, 4)).astype(np.float32)


def _part(scan: Scan, slices: slice) -> Scan:
    first = tuple(position_mm(scan, (slices.start, 0, 0)))
    return scan.with_voxels(scan.voxels[slices], origin_mm=first, metadata={})


def _rounded(scan: Scan, step: float) -> Scan:
    values = (np.rint(scan.voxels / step) * step).astype(np.float32)
    return scan.with_voxels(values, metadata={})


if __name__ == "__main__":
    main()
