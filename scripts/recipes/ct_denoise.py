"""CT denoising: clean slices with noise of any kernel and strength, drawn at every step, and faint probes to keep."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_restore_rwkv.metrics import psnr
from napari_restore_rwkv.network.checkpoint import NOISE_KEPT, OWN_ERROR
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, NOISE_LEVEL_SCALE, UNKNOWN_NOISE
from napari_restore_rwkv.restoration.intensity import IntensityRule, choose_intensity
from napari_restore_rwkv.restoration.suitability import TRAINED_FOR
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.ct import added_noise
from napari_restore_rwkv.simulate.ct_kernels import KERNELS
from napari_restore_rwkv.simulate.ct_noise import noise_realisation, noise_shape
from napari_restore_rwkv.training.train import Batch, TrainingOptions

from .ct_slices import NOISE_HU, Example, Volume, draw_example, square
from .losses import transfer_error
from .probes import CONTRASTS_HU, RADII, disc
from .projected_noise import ProjectedNoise, projected_noise
from .recipe import Draw, Recipe, Rows, Watch, load_slices, save_slices, shortfall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

CHEST_A, CHEST_F, THORAX = "ct_chest_a.nrrd", "ct_chest_f_3mm.nii.gz", "ct_thorax_b_1p5mm.nii.gz"
ABDOMEN = "ct_abdomen_c_dicom"
# Side of a pixel of the packed slices.
PIXELS_MM = {"chest_a": 0.5703, "chest_f": 1.5625, "thorax": 1.5}
# Slices of each volume whose noise is projected when the data are packed, and the fraction of examples with such noise.
_PROJECTED_SLICES, PROJECTED_SHARE = 16, 0.4
WINDOW_HU = (-160.0, 240.0)
# Side in pixels and number of the crops of a batch, half of them without probes; 0 is a whole slice, alone.
CROPS = ((64, 8), (96, 4), (128, 2), (160, 2), (256, 1), (0, 1))
CROP_ODDS = (0.24, 0.28, 0.24, 0.12, 0.08, 0.04)
# Of the noise of the training kernels, in cycles per pixel, as measured by `scans.noise`.
MEAN_FREQUENCIES = (0.05, 0.46)
# The noise of a scan is measured, but not exactly; sometimes it is unknown.
_MISJUDGED, _NOISE_UNKNOWN = 0.12, 0.1
# Visibility at which a probe counts half.
_HALF_VISIBLE = 1.5

# How much higher the dose of a reference is, from half dose to a thirtieth.
DOSES, _EARLY_DOSES = (2.5, 16.0), (2.5, 30.0)

VALIDATION_SLICES = (4, 14)
# Kernels and strengths in HU that choose the best weights: soft at half dose, standard at a quarter with noise that
# was projected, sharp thin slices.
WATCHED = (("smooth", 22.0), ("standard", 45.0), ("edge-enhancing", 90.0))
_PROJECTED_KERNEL = "standard"
_FIRST_STAGE, _SECOND_STAGE = "ct-denoise-first", "ct-denoise-second"
# Discs whose contrast is monitored: contrast in HU, radius in pixels, and the fraction of it that should be kept.
_WATCHED_DISCS = ((5.0, 11.0, 0.88), (14.0, 4.0, 0.75))
_DISC_PLACES = ((200.0, 170.0), (215.0, 350.0), (300.0, 150.0))


def pack(scans: Path, folder: Path) -> None:
    """Write the clean slices of the training subjects and the noisy ones of the validation subject."""
    chest_a, chest_f, thorax = (np.asarray(read_scan(scans / n).voxels, np.float32) for n in (CHEST_A, CHEST_F, THORAX))
    # Means of three thin slices, and of four pixels of a noisy scan: targets with less noise.
    thick = (thorax[:-2] + thorax[1:-1] + thorax[2:]) / 3
    volumes = {"chest_a": square(chest_a), "chest_f": square(_binned(chest_f)), "thorax": square(thick)}
    save_slices({name: list(slices) for name, slices in volumes.items()}, folder / "clean.safetensors")
    for name, slices in volumes.items():
        noise = projected_noise(slices, PIXELS_MM[name], every=max(1, len(slices) // _PROJECTED_SLICES))
        groups = {"slices": [noise.slices], "realisations": list(noise.realisations)}
        save_slices(groups, folder / f"projected_{name}.safetensors")

    abdomen = read_scan(scans / ABDOMEN)
    rng = np.random.default_rng(1)
    groups: dict[str, list[np.ndarray]] = {"clean": [], "noisy": []}
    for index in VALIDATION_SLICES:
        images = np.asarray(abdomen.voxels[index - 1 : index + 2], np.float32)[[1, 0, 2]]
        shape = noise_shape(images[0], abdomen.spacing_mm[1])
        for kernel, noise_hu in WATCHED:
            pixel_mm, noise = abdomen.spacing_mm[1], []
            for image in images:
                if kernel == _PROJECTED_KERNEL:
                    seed = int(rng.integers(2**31))
                    noise.append(added_noise(image, pixel_mm, noise_hu, seed=seed, kernel=KERNELS[kernel]))
                else:
                    noise.append(noise_realisation(shape, image.shape, pixel_mm, KERNELS[kernel], noise_hu, rng))
            groups["clean"].append(images[0])
            groups["noisy"].append(images + np.stack(noise))
    save_slices(groups, folder / "validation.safetensors")


def draw(folder: Path, doses: tuple[float, float] | None = DOSES, projected_share: float = 0.0) -> Draw:
    """Return a function that draws a batch: noisy slices with context, targets, and the probes of one half of them.

    The targets have the noise of a dose that is higher by a factor from `doses`; None for clean ones.
    """
    packed = load_slices(folder / "clean.safetensors")
    volumes = [
        Volume(
            np.stack(packed[name]),
            pixel_mm,
            # Neighbours that do not share a thin slice.
            steps=(3,) if name == "thorax" else (1,),
            projected=_projected(folder, name) if projected_share else None,
        )
        for name, pixel_mm in PIXELS_MM.items()
    ]

    def batch(rng: np.random.Generator) -> Batch:
        side, count = CROPS[rng.choice(len(CROPS), p=CROP_ODDS)]
        drawn = [
            _pair(draw_example(volumes, side, rng, doses, projected_share), rng) for _ in range(max(1, count // 2))
        ]
        with_probes, without = (
            [torch.from_numpy(np.stack(parts)) for parts in zip(*half, strict=True)]
            for half in zip(*drawn, strict=True)
        )
        if count == 1:
            noisy, clean, signal, labels, weights = with_probes
            return noisy, clean, signal, labels, torch.zeros_like(weights)
        return tuple(torch.cat(both) for both in zip(with_probes, without, strict=True))

    return batch


def _projected(folder: Path, name: str) -> ProjectedNoise:
    packed = load_slices(folder / f"projected_{name}.safetensors")
    return ProjectedNoise(packed["slices"][0], np.stack(packed["realisations"]))


def watch(folder: Path) -> Watch:
    """Gain in dB over the noisy slices, window [-160, 240] HU, and the fraction of the contrast of faint discs kept.

    The score is the mean gain, minus a tenth of a decibel for every hundredth by which contrast misses its target.
    """
    validation = load_slices(folder / "validation.safetensors")

    def score(network: nn.Module) -> dict[str, float]:
        figures: dict[str, float] = {}
        for at, (kernel, noise_hu) in enumerate(WATCHED):
            gains = []
            for noisy, clean in list(zip(validation["noisy"], validation["clean"], strict=True))[at :: len(WATCHED)]:
                restored = restored_slice(network, noisy, noise_hu)
                gains.append(psnr(restored, clean, window=WINDOW_HU) - psnr(noisy[0], clean, window=WINDOW_HU))
            figures[f"gain_{kernel}"] = float(np.mean(gains))
        for contrast, radius, _ in _WATCHED_DISCS:
            figures[f"kept_{contrast:g}"] = _kept(network, validation["noisy"][0], WATCHED[0][1], contrast, radius)
        gain = float(np.mean([figures[f"gain_{kernel}"] for kernel, _ in WATCHED]))
        lost = sum(max(0.0, aim - figures[f"kept_{contrast:g}"]) for contrast, _, aim in _WATCHED_DISCS)
        return {"score": gain - 10 * lost, **figures}

    return score


def measure(folder: Path, network: nn.Module) -> Rows:
    """Rows of kernel and noise strength with the figures before and after."""
    validation = load_slices(folder / "validation.safetensors")
    rows = []
    for at, (kernel, noise_hu) in enumerate(WATCHED):
        before, after, bias = [], [], []
        for noisy, clean in list(zip(validation["noisy"], validation["clean"], strict=True))[at :: len(WATCHED)]:
            restored = restored_slice(network, noisy, noise_hu)
            before.append(psnr(noisy[0], clean, window=WINDOW_HU))
            after.append(psnr(restored, clean, window=WINDOW_HU))
            inside = (clean > WINDOW_HU[0]) & (clean < WINDOW_HU[1])
            bias.append(float((restored - clean)[inside].mean()))
        rows.append(
            {
                "kernel": kernel,
                "noise_hu": noise_hu,
                "psnr_before": float(np.mean(before)),
                "psnr_after": float(np.mean(after)),
                "worst_gain": float(np.min(np.subtract(after, before))),
                "mean_residual_hu": float(np.mean(bias)),
            }
        )
    return rows


def restored_slice(network: nn.Module, noisy: np.ndarray, noise_hu: float) -> np.ndarray:
    """Restore a slice with its neighbours, (3, Y, X) in HU, as inference does; (Y, X) in HU."""
    rule = _rule()
    level = np.full((1, *noisy.shape[1:]), NOISE_LEVEL_SCALE * noise_hu / (rule.high - rule.low), np.float32)
    stack = torch.from_numpy(np.concatenate((rule.to_network(noisy), level)))[None]
    with torch.no_grad():
        restored = network(stack if getattr(network, "context", 0) else stack[:, :1])
    return rule.from_network(restored[0, 0].numpy(), noisy[0])


def falls_short(rows: Rows) -> str:
    """Every slice must gain, and the mean may be off by 1 HU; the benchmark measures the lead over filters."""
    return shortfall(
        {
            f"{name} at {row['noise_hu']:g} HU of noise": (value, least)
            for row in rows
            for name, value, least in (
                ("the gain of the worst slice in dB", row["worst_gain"], 0.0),
                ("the mean residual in HU, taken negative,", -abs(row["mean_residual_hu"]), -1.0),
            )
        }
    )


Half = tuple[np.ndarray, ...]  # noisy, clean, signal, labels and weights of the probes, (C, Y, X) each


def _pair(example: Example, rng: np.random.Generator) -> tuple[Half, Half]:
    """Return an example in network units, and the same without its probes, turned at random."""
    width = _rule().high - _rule().low
    level = UNKNOWN_NOISE
    if rng.random() >= _NOISE_UNKNOWN:
        level = NOISE_LEVEL_SCALE * example.noise_hu * float(np.exp(_MISJUDGED * rng.standard_normal())) / width
    told = np.full_like(example.signal, level)[None]
    weights = np.zeros_like(example.signal)
    for number, visibility in enumerate(example.visibility, 1):
        weights[example.labels == number] = visibility**2 / (visibility**2 + _HALF_VISIBLE**2)
    probes = (example.signal / np.float32(width), example.labels, weights)
    nothing = tuple(np.zeros_like(values) for values in probes)
    turn = _random_turn(rng)

    def half(noisy: np.ndarray, clean: np.ndarray, added: tuple[np.ndarray, ...]) -> Half:
        images = (np.concatenate((_scaled(noisy), told)), _scaled(clean)[None], *(values[None] for values in added))
        return tuple(turn(values) for values in images)

    return half(example.noisy, example.clean, probes), half(
        example.noisy_without, example.clean - example.signal, nothing
    )


def _kept(network: nn.Module, noisy: np.ndarray, noise_hu: float, contrast: float, radius: float) -> float:
    """Fraction of the contrast of discs in a noisy slice (3, Y, X) that is left after restoration."""
    discs = [np.float32(contrast) * disc(noisy.shape[1:], place, radius) for place in _DISC_PLACES]
    difference = restored_slice(network, noisy + sum(discs), noise_hu) - restored_slice(network, noisy, noise_hu)
    return float(np.mean([(difference * one).sum() / (one**2).sum() for one in discs]))


def _random_turn(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)

    def turn(values: np.ndarray) -> np.ndarray:
        turned = np.rot90(values, turns, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    return turn


def _scaled(values: np.ndarray) -> np.ndarray:
    return _rule().to_network(values)


def _rule() -> IntensityRule:
    return choose_intensity(Scan(np.zeros((1, 1, 1)), modality="CT"))


def _binned(images: np.ndarray) -> np.ndarray:
    z, height, width = images.shape
    return images.reshape(z, height // 2, 2, width // 2, 2).mean(axis=(2, 4))


RECIPE = Recipe(
    task="ct-denoise",
    stage="ct-denoise",
    start_from=_SECOND_STAGE,
    context=CONTEXT_CHANNELS,
    options=TrainingOptions(steps=2500, learning_rate=5e-4),
    training_scans={
        CHEST_A: "PyPI pyradiomics 3.0.1 (sdist), data/lung1_image.nrrd, BSD-3-Clause",
        CHEST_F: "GitHub FNNDSC/data, dicom/andrei_abdomen (TCIA LIDC-IDRI-0314), CC BY 3.0",
        THORAX: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/aorta_report, Apache-2.0",
    },
    validation_scans={
        ABDOMEN: "PyPI totalsegmentator 2.18.0 (sdist), tests/reference_files/example_ct_dicom, Apache-2.0"
    },
    pack=pack,
    draw=partial(draw, projected_share=PROJECTED_SHARE),
    watch=watch,
    measure=measure,
    falls_short=falls_short,
    what_is_measured=f"PSNR in dB, window {WINDOW_HU} HU, {len(VALIDATION_SLICES)} whole slices with their neighbours "
    "of a subject never trained on, with simulated noise of three kernels; the mean residual is that of pixels inside "
    "the window",
    intended_use="Reducing noise in CT of the trunk, 8 to 120 HU, of soft to sharp kernels. Research only.",
    limits="Trained on three subjects with simulated noise, measured on a fourth; not on heads or limbs. Small "
    "structures of low contrast may lose contrast.",
    loss=partial(transfer_error, weight=0.0006),
    card_details={
        TRAINED_FOR: {"noise": NOISE_HU, "mean_frequency": MEAN_FREQUENCIES},
        # On a noise-free template with 3 HU of noise any less of it would do more harm than good.
        OWN_ERROR: 7.0,
        # So that the mean frequency of the noise stays above 0.8 of the scan's, up to 70 HU.
        NOISE_KEPT: 0.1,
    },
    details={
        "probes_hu": CONTRASTS_HU,
        "probe_radii": RADII,
        "doses": DOSES,
        "share_of_projected_noise": PROJECTED_SHARE,
        "crops": CROPS,
        "loss": "root mean square error of each crop, and how far the contrast of faint probes is off",
    },
)

# The first stages: noise by sectors only; clean targets and more weight on faint probes, then the noise of references.
SECOND_RECIPE = replace(
    RECIPE,
    stage=_SECOND_STAGE,
    start_from=_FIRST_STAGE,
    options=TrainingOptions(steps=1000, learning_rate=4e-4),
    draw=partial(draw, doses=_EARLY_DOSES),
)
FIRST_RECIPE = replace(
    RECIPE,
    stage=_FIRST_STAGE,
    start_from="ct-denoise@1",
    options=TrainingOptions(steps=3400, learning_rate=6e-4),
    draw=partial(draw, doses=None),
    loss=partial(transfer_error, weight=0.0015),
)
