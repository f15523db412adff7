"""MRI super-resolution: sharp slices of any contrast, whose resolution is lowered at every step.

Only the sharp slices are packed. Each draw takes one, gives it another contrast, shading, sampling and sharpness (the
target), and lowers its resolution (the input). Templates at 1 mm have little fine detail, so most are drawn on a
coarser grid, where their content extends up to the highest frequencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_restore_rwkv.metrics import psnr, ssim
from napari_restore_rwkv.network.checkpoint import KEEPS_MEASURED, TURNS, WRAPPED_BORDER
from napari_restore_rwkv.network.classical import CLASSICAL, load_restorer
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.kspace import measured_extent, with_measured
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.mri import low_resolution
from napari_restore_rwkv.training.train import Batch, TrainingOptions

from .losses import unmeasured_error
from .mri_slices import FACTORS, MOST_NOISE, displayed, field_of_view, lowered, random_phantom, sharp_slice
from .recipe import SARCOMA_SOURCE, Draw, Recipe, Rows, Watch, load_slices, save_slices, shortfall

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

COLIN, HEAD, MACAQUE = "mr_t1_colin27_1mm.nii.gz", "mr_t1_head_e_1mm.nii.gz", "mr_t1_inia19_macaque_0p5mm.nii.gz"
MNI, CHEST, THORAX = "mr_t1_mni152_nilearn_1mm.nii.gz", "ct_chest_a.nrrd", "ct_thorax_b_1p5mm.nii.gz"
# Numbers 9 and 20 have no T1 scan.
TRAINING_SUBJECTS = tuple(subject for subject in range(1, 33) if subject not in {9, 20})
VALIDATION, VALIDATION_SUBJECTS = "mr_t1gd_brain_d.nrrd", tuple(range(33, 41))
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "coins", "brick", "gravel")

# Probability weight of each group, and the range of factors by which its grid is coarser.
GROUPS = {
    "limbs": (0.3, (0.8, 1.5)),
    "colin": (0.14, (1.1, 2.0)),
    "head": (0.18, (0.85, 1.8)),
    "macaque": (0.1, (0.9, 1.7)),
    "mni": (0.06, (1.5, 2.2)),
    "ct": (0.07, (0.9, 1.8)),
    "photographs": (0.08, (1.0, 2.6)),
    # Of any sharpness, since they are not on a grid.
    "phantoms": (0.07, (1.0, 1.0)),
}
# Longest crop sides with the batch of each and their odds; the last is a whole field of view. Each side of a crop is
# shorter by up to 15 pixels: the edges of an odd field of view, or of an odd block of k-space, ring in another way.
CROPS = ((64, 8), (96, 4), (128, 2), (176, 1), (256, 1))
CROP_ODDS = (0.34, 0.28, 0.2, 0.1, 0.08)
MOST_SHORTER = 15
# Smaller crops are parts of a phantom of this side.
PHANTOM_SIDE = 160
WATCHED_SLICES, MEASURED_SLICES = (5, 10, 15, 20), tuple(range(2, 24))
MEASURED = ((2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (2.0, 0.01), (4.0, 0.01))


Piece = tuple[np.ndarray, np.ndarray, np.ndarray]  # low resolution, which coefficients were measured, sharp


def pack(scans: Path, folder: Path) -> None:
    """Write slices.safetensors, sharp slices by group, and validation.safetensors, the validation subject."""
    groups = {
        "colin": _three_ways(read_scan(scans / COLIN).voxels, 4),
        "head": _three_ways(read_scan(scans / HEAD).voxels, 5),
        "macaque": _three_ways(_as_bytes(read_scan(scans / MACAQUE).voxels), 4),
        "mni": _three_ways(read_scan(scans / MNI).voxels, 6),
        "limbs": _limb_slices(scans),
        "ct": _ct_slices(scans),
        "photographs": [_photograph(name) for name in PHOTOGRAPHS],
    }
    save_slices(groups, folder / "slices.safetensors")
    validation = {
        "slice": list(np.asarray(read_scan(scans / VALIDATION).voxels)),
        "limb": [_middle_slice(scans / limb_file(subject)) for subject in VALIDATION_SUBJECTS],
    }
    save_slices(validation, folder / "validation.safetensors")


def draw(folder: Path, apodised: float = 0.8, usual: float = 0.7, faded: float = 0.5) -> Draw:
    """Return a function that draws low-resolution and sharp fields of view of all groups, and what was measured.

    A fraction `apodised` of the sharp ones has its highest frequencies tapered, as most scanners do; a fraction `usual`
    is lowered by an integer factor; a fraction `faded` fades to black at its rim.
    """
    groups, names = load_slices(folder / "slices.safetensors"), list(GROUPS)
    odds = np.array([GROUPS[name][0] for name in names])

    def batch(rng: np.random.Generator) -> Batch:
        side, count = CROPS[rng.choice(len(CROPS), p=CROP_ODDS)]
        height, width = (side - int(less) for less in rng.integers(0, MOST_SHORTER + 1, 2))
        pieces: list[Piece] = []
        while len(pieces) < count:
            name = names[rng.choice(len(names), p=odds / odds.sum())]
            if name in groups:
                image = groups[name][rng.integers(len(groups[name]))]
                sharp = sharp_slice(image, GROUPS[name][1], side, rng, apodised)
            else:
                sharp = displayed(random_phantom(max(side, PHANTOM_SIDE), rng), rng, apodised)
            sharp = field_of_view(sharp, (height, width), rng, faded)
            pieces.append((*lowered(sharp, rng, usual), sharp))
        return _stacked(pieces)

    return batch


def _stacked(pieces: list[Piece]) -> Batch:
    low, measured, clean = (torch.from_numpy(np.stack(images)[:, None]) for images in zip(*pieces, strict=True))
    return low, clean, measured


def watch(folder: Path) -> Watch:
    """Gain over zero-fill in dB at x2 and x4, on a few whole slices of the validation subject and on limbs.

    The score also counts the limb that gains least: networks that do better on heads may harm small fields of view.
    """
    validation = load_slices(folder / "validation.safetensors")
    heads = [validation["slice"][i] for i in WATCHED_SLICES]

    def score(network: nn.Module) -> dict[str, float]:
        found = {}
        for factor in (2.0, 4.0):
            for name, images in (("", heads), ("_limbs", validation["limb"]), ("_inverted", map(inverted, heads))):
                gains = [_gain(score_slice(network, image, factor, 0.0)) for image in images]
                found[f"gain_x{factor:g}{name}"] = float(np.mean(gains))
                found[f"worst_x{factor:g}{name}"] = min(gains)
        judged = ("gain_x2", "gain_x4", "gain_x2_limbs", "gain_x4_limbs", "worst_x2_limbs", "worst_x4_limbs")
        return {"score": sum(found[name] for name in judged), **found}

    return score


def measure(folder: Path, network: nn.Module) -> Rows:
    """Rows of contrast, factor and noise with the figures of zero-fill, of the classical filter and of the network."""
    validation = load_slices(folder / "validation.safetensors")
    heads = [validation["slice"][i] for i in MEASURED_SLICES]
    classical, rows = load_restorer(CLASSICAL["mri-sr"]), []
    for contrast, images in (
        ("T1 with contrast agent", heads),
        ("inverted", [inverted(image) for image in heads]),
        ("T1, limbs", validation["limb"]),
    ):
        for factor, noise in MEASURED:
            scored = []
            for seed, image in enumerate(images):
                filtered = score_slice(classical, image, factor, noise, seed=seed)["psnr_of_network"]
                scored.append(score_slice(network, image, factor, noise, seed=seed) | {"psnr_of_filter": filtered})
            worst = {
                "worst_gain": min(_gain(one) for one in scored),
                "worst_over_filter": min(one["psnr_after"] - one["psnr_of_filter"] for one in scored),
            }
            means = {name: float(np.mean([one[name] for one in scored])) for name in scored[0]}
            rows.append({"contrast": contrast, "factor": factor, "noise": noise, **means, **worst})
    return rows


def _gain(scored: dict[str, float]) -> float:
    return scored["psnr_after"] - scored["psnr_before"]


def falls_short(rows: Rows) -> str:
    """Say what misses these limits.

    Without noise at least 1 dB at x2 and 1.2 dB at x4 on T1, and no slice of any contrast worse than zero-fill. With
    and without noise, no slice worse than the classical filter makes it.
    """
    figures = {}
    for row in rows:
        noise = f" with {row['noise']:.0%} of noise" if row["noise"] else ""
        where = f"at x{row['factor']:g}, {row['contrast']}{noise}"
        figures[f"the least lead over the classical filter in dB {where}"] = (
            row["worst_over_filter"],
            0.0,
        )
        if row["noise"]:
            continue
        least = {2.0: 1.0, 4.0: 1.2}.get(row["factor"], 0.0) if row["contrast"].startswith("T1") else 0.0
        figures[f"the mean gain in dB {where}"] = (_gain(row), least)
        figures[f"that of the worst slice {where}"] = (row["worst_gain"], 0.0)
    return shortfall(figures)


def score_slice(
    network: nn.Module, image: np.ndarray, factor: float, noise: float, *, seed: int = 0
) -> dict[str, float]:
    """Score zero-fill and restored slice against the sharp one; the noise is a fraction of its 99.9th percentile."""
    low = low_resolution(image, factor, noise * float(np.percentile(image, 99.9)), seed=seed)
    rule = choose_intensity(Scan(low[None], modality="MR"))
    with torch.no_grad():
        restored = rule.from_network(network(torch.from_numpy(rule.to_network(low))[None, None])[0, 0].numpy(), low)
    extent = measured_extent(low)
    consistent = with_measured(restored, low, extent) if extent else restored
    return {
        "psnr_before": psnr(low, image),
        "psnr_of_network": psnr(restored, image),
        "psnr_after": psnr(consistent, image),
        "ssim_before": ssim(low, image),
        "ssim_after": ssim(consistent, image),
    }


def inverted(image: np.ndarray) -> np.ndarray:
    """Another contrast of a T1 slice: air stays dark, and above it what was bright is dark."""
    scale = max(float(np.percentile(image, 99.9)), 1.0)
    values = image / scale
    return (scale * np.interp(values, (0, 0.12, 1, 1.6), (0, 1, 0.15, 0.05))).astype(np.float32)


def _as_it_is(image: np.ndarray) -> np.ndarray:
    return image


def _three_ways(voxels: np.ndarray, step: int) -> list[np.ndarray]:
    """Slices along all three axes, if they have content, cropped to it with a margin."""
    voxels = np.asarray(voxels)
    slices = []
    for axis in range(3):
        for image in np.moveaxis(voxels, axis, 0)[step // 2 :: step]:
            filled = image > 0.1 * 255
            if filled.mean() < 0.08:
                continue
            rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
            bounds = [(max(0, where[0] - 6), where[-1] + 7) for where in (rows, columns)]
            slices.append(image[bounds[0][0] : bounds[0][1], bounds[1][0] : bounds[1][1]])
    return slices


def _as_bytes(voxels: np.ndarray) -> np.ndarray:
    voxels = np.asarray(voxels)
    return np.rint((voxels * (255 / np.percentile(voxels, 99.95))).clip(0, 255)).astype(np.uint8)


def _limb_slices(scans: Path) -> list[np.ndarray]:
    """Every third slice of the limbs and trunks with enough content."""
    slices = []
    for subject in TRAINING_SUBJECTS:
        slices += [image for image in _as_bytes(read_scan(scans / limb_file(subject)).voxels)[1::3] if image.std() > 10]
    return slices


def _middle_slice(path: Path) -> np.ndarray:
    voxels = np.asarray(read_scan(path).voxels, np.float32)
    return voxels[len(voxels) // 2]


def limb_file(subject: int) -> str:
    """Name of the T1 scan of a subject of the soft-tissue sarcoma collection."""
    return f"sts/sts_{subject:03d}_t1.nii.gz"


def _ct_slices(scans: Path) -> list[np.ndarray]:
    chest, thorax = (np.asarray(read_scan(scans / name).voxels) for name in (CHEST, THORAX))
    halved = chest.reshape(len(chest), 256, 2, 256, 2).mean(axis=(2, 4))
    return [np.rint(image).astype(np.int16) for image in (*halved, *thorax[::3])]


def _photograph(name: str) -> np.ndarray:
    # Only packing the training set needs scikit-image.
    from skimage import color, data

    image = getattr(data, name)()
    grey = color.rgb2gray(image) * 255 if image.ndim == 3 else image
    return np.rint(grey).astype(np.uint8)


_PYCORTEX = "PyPI pycortex 1.4.0 (sdist), filestore/db/S1/anatomicals/raw.nii.gz, BSD-2-Clause"

RECIPE = Recipe(
    task="mri-sr",
    stage="mri-sr",
    start_from="mri-sr@2",
    options=TrainingOptions(steps=2500, learning_rate=5e-4),
    training_scans={
        **{limb_file(subject): SARCOMA_SOURCE for subject in TRAINING_SUBJECTS},
        COLIN: "Debian mricron-data, templates/ch2.nii.gz, BSD-3-Clause",
        HEAD: _PYCORTEX,
        MACAQUE: "Debian mricron-data, BSD-3-Clause",
        MNI: "PyPI nilearn 0.14.1, datasets/data, BSD-3-Clause",
        CHEST: "PyPI pyradiomics 3.0.1 (sdist), data/lung1_image.nrrd, BSD-3-Clause",
        THORAX: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/aorta_report, Apache-2.0",
    },
    validation_scans={
        VALIDATION: "PyPI pyradiomics 3.0.1 (sdist), data/brain1_image.nrrd, BSD-3-Clause",
        **{limb_file(subject): SARCOMA_SOURCE for subject in VALIDATION_SUBJECTS},
    },
    pack=pack,
    draw=draw,
    watch=watch,
    measure=measure,
    what_is_measured="PSNR in dB and SSIM, data range max - min of each sharp slice, mean over 22 whole slices of a "
    "subject never trained on, and over a slice each of eight others (limbs); before is zero-filled, after is one "
    "pass with the measured block of k-space put back; worst_gain is that of the slice that gained "
    "least, worst_over_filter that of the slice whose lead over the classical filter is least",
    falls_short=falls_short,
    intended_use="Sharpening MR slices that were acquired at a half to a quarter of the resolution of their grid, "
    "along both axes. Research only.",
    limits="Trained on k-space cropping simulated from limbs and trunks of 30 subjects, two heads, two templates, "
    "a macaque, CT and photographs in random contrasts, and random phantoms; not tested on real accelerated "
    "acquisitions. It cannot know detail that was not measured.",
    loss=unmeasured_error,
    # With 1, a watched slice ends 0.1 dB below zero-fill at x4; with this none does, and their mean is higher.
    damping=0.8,
    card_details={KEEPS_MEASURED: True, TURNS: 1, WRAPPED_BORDER: 4},
    details={
        "groups": {name: {"odds": odds, "coarser": grids} for name, (odds, grids) in GROUPS.items()},
        "photographs": PHOTOGRAPHS,
        "crops": CROPS,
        "most_shorter": MOST_SHORTER,
        "factors": FACTORS,
        "most_noise": MOST_NOISE,
        "loss": "root mean square error of the unmeasured frequencies, and a quarter of that of all",
    },
)
