"""What benchmark_restoration.py measures: slices of every task, degraded to several strengths, and the clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from recipes import ct_denoise, mri_sr, pet_low_count
from recipes.recipe import load_slices
from scipy.ndimage import gaussian_filter
from skimage.restoration import estimate_sigma
from train_weights import STATES

from napari_restore_rwkv.simulate.ct_kernels import KERNELS
from napari_restore_rwkv.simulate.ct_noise import noise_realisation, noise_shape
from napari_restore_rwkv.simulate.mri import low_resolution

if TYPE_CHECKING:
    from collections.abc import Callable

# Slices that the filters are tuned on for CT: group, index, and side of a pixel in mm.
TUNED_ON = (("chest_a", 10, 0.57), ("chest_a", 32, 0.57), ("chest_f", 45, 1.56))


class Pair(NamedTuple):
    """A degraded slice, as one of the slices of `scan` (Z, Y, X), and how it should be (Y, X)."""

    scan: np.ndarray
    index: int
    clean: np.ndarray

    @property
    def low(self) -> np.ndarray:
        """The degraded slice (Y, X)."""
        return np.asarray(self.scan[self.index])


def alone(low: np.ndarray, clean: np.ndarray) -> Pair:
    """Return a slice without neighbours, as a pair."""
    return Pair(low[None], 0, clean)


Slices = list[Pair]


@dataclass(frozen=True, slots=True)
class Case:
    """One task at one strength: degraded and clean slices to measure, others to tune on, and how to score."""

    task: str
    strength: str
    modality: str
    unit: str
    window: tuple[float, float] | None
    measured: Slices
    tuning: Slices
    # Power of the noise in every coefficient of the 2-D FFT of a slice of this shape, where it is known.
    spectrum: Callable[[tuple[int, ...]], np.ndarray] | None = None


def ct_cases(slices: int) -> list[Case]:
    """CT of soft to sharp kernels, each slice with its neighbours."""
    folder = STATES / "ct-denoise"
    validation, training = (load_slices(folder / f"{name}.safetensors") for name in ("validation", "clean"))
    stacks = list(zip(validation["noisy"], validation["clean"], strict=True))
    cases = []
    for at, (kernel, noise_hu) in enumerate(ct_denoise.WATCHED):
        measured = [Pair(*in_order(noisy), clean) for noisy, clean in stacks[at :: len(ct_denoise.WATCHED)]]
        rng = np.random.default_rng(at)
        tuning = []
        for group, index, pixel_mm in TUNED_ON:
            clean = training[group][index]
            shape = noise_shape(clean, pixel_mm)
            noise = noise_realisation(shape, clean.shape, pixel_mm, KERNELS[kernel], noise_hu, rng)
            tuning.append(alone(clean + noise, clean))
        # That of the actual noise that was added: in practice it is never known so well.
        added = [pair.low - pair.clean for pair in measured]
        power = gaussian_filter(np.mean([np.abs(np.fft.fft2(one)) ** 2 for one in added], axis=0), 2, mode="wrap")
        strength = f"{kernel}, {noise_hu:g} HU"
        cases.append(
            Case(
                "ct-denoise",
                strength,
                "CT",
                "HU",
                ct_denoise.WINDOW_HU,
                measured[:slices],
                tuning,
                lambda _, p=power: p,
            )
        )
    return cases


def in_order(stack: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a slice with its neighbours, packed as slice, below, above, in the order of the scan, and its index."""
    return stack[[1, 0, 2]], 1


def mri_cases(slices: int) -> list[Case]:
    """MRI at x2, x3 and x4, without noise and with 1 % of it, and of another contrast."""
    folder = STATES / "mri-sr"
    volume = load_slices(folder / "validation.safetensors")["slice"]
    groups = load_slices(folder / "slices.safetensors")
    tuning = [groups["head"][10], groups["head"][60], groups["colin"][40]]
    numbers = np.linspace(2, 23, slices).round().astype(int)
    settings = [("T1 Gd", factor, noise) for factor, noise in mri_sr.MEASURED]
    settings += [("inverted", 2.0, 0.0), ("inverted", 4.0, 0.0)]

    def pairs(images: list[np.ndarray], contrast: str, factor: float, noise: float) -> Slices:
        sharp = [mri_sr.inverted(image) if contrast == "inverted" else image.astype(np.float32) for image in images]
        return [
            alone(low_resolution(image, factor, noise * float(np.percentile(image, 99.9)), seed=i), image)
            for i, image in enumerate(sharp)
        ]

    return [
        Case(
            "mri-sr",
            f"{contrast}, x{factor:g}" + (f", noise {noise:.0%}" if noise else ""),
            "MR",
            "",
            None,
            pairs([volume[i] for i in numbers], contrast, factor, noise),
            pairs(tuning, contrast, factor, noise),
        )
        for contrast, factor, noise in settings
    ]


def pet_cases(slices: int) -> list[Case]:
    """A quarter, a twelfth and a 24th of the counts of a phantom and of real uptake."""
    folder = STATES / "pet-low-count"
    training = load_slices(folder / "pairs.safetensors")
    suv = np.float32(1000)
    cases = []
    for name, reduction in product((pet_low_count.PHANTOM, pet_low_count.REAL), pet_low_count.MEASURED_REDUCTIONS):
        pairs = load_slices(folder / f"{name}_{reduction:g}.safetensors")
        numbers = np.linspace(0, len(pairs["low"]) - 1, slices).round().astype(int)
        # Training slices were thinned at random; those whose noise is closest to this strength are used for tuning.
        wanted = np.median([estimate_sigma(pairs["low"][i] / suv) for i in numbers])
        near = np.argsort([abs(estimate_sigma(low / suv) - wanted) for low in training["low"]])[:5]
        cases.append(
            Case(
                "pet-low-count",
                f"{name}, 1/{reduction:g} of the counts",
                "PET",
                "SUV",
                None,
                [alone(pairs["low"][i] / suv, pairs["full"][i] / suv) for i in numbers],
                [alone(training["low"][i] / suv, training["full"][i] / suv) for i in near],
            )
        )
    return cases


CASES = {"ct-denoise": ct_cases, "mri-sr": mri_cases, "pet-low-count": pet_cases}
