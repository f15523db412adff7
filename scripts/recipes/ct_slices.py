"""Examples for CT denoising, drawn from clean volumes with noise that no two examples share.

Each example is a crop of a slice with the crops of its neighbours, resampled to a random pixel size, with its own faint
objects, and noise of a random kernel, strength and source slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_restore_rwkv.simulate.ct_kernels import Kernel, random_kernel
from napari_restore_rwkv.simulate.ct_noise import NoiseShape, noise_realisation, noise_shape

from .probes import random_probes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .projected_noise import ProjectedNoise

NOISE_HU = (6.0, 130.0)
# Fraction of examples with almost no noise, which are best left unchanged.
_ALMOST_CLEAN = 0.08
_COUNTS = (3e4, 1e6)
_ZOOM = (0.65, 1.6)
_OTHER_ORIGIN, _ALONE, _AT_AN_END, _SHARED_NOISE, _REACHES = 0.3, 0.3, 0.06, 0.3, 0.7
_BLURRED, _SHARPENED, _LARGEST_GAIN = 0.25, 0.5, 2.2


@dataclass(frozen=True)
class Volume:
    """Clean slices of one subject, square or padded with air to squares.

    Attributes
    ----------
    slices
        Shape (Z, N, N), int16, in HU.
    pixel_mm
        Side of a pixel in mm.
    steps
        Distances between neighbours to choose from, in slices.
    projected
        Projected noise of some of the slices.
    """

    slices: np.ndarray
    pixel_mm: float
    steps: tuple[int, ...] = (1,)
    projected: ProjectedNoise | None = None
    _shapes: dict[int, NoiseShape] = field(default_factory=dict)

    @cached_property
    def side(self) -> int:
        """Pixels along a side of a slice."""
        return int(self.slices.shape[1])

    def noise_shape(self, index: int) -> NoiseShape:
        """Where the noise of a slice is strong; computed on first use, the same every time."""
        if index not in self._shapes:
            counts = np.exp(np.random.default_rng(index).uniform(*np.log(_COUNTS)))
            self._shapes[index] = noise_shape(self.slices[index], self.pixel_mm, float(counts))
        return self._shapes[index]


@dataclass(frozen=True, slots=True)
class Example:
    """A crop of a noisy scan.

    Attributes
    ----------
    noisy
        The slice and its neighbours below and above with their noise, shape (3, Y, X), float32, in HU.
    clean
        The target of the slice, shape (Y, X), float32, in HU: with the noise of its reference, if any.
    noise_hu
        Standard deviation of the noise at the centre of the scan, in HU.
    noisy_without
        `noisy` without the probes.
    signal, labels, visibility
        The probes of the slice, see `Probes`.
    """

    noisy: np.ndarray
    clean: np.ndarray
    noise_hu: float
    noisy_without: np.ndarray
    signal: np.ndarray
    labels: np.ndarray
    visibility: tuple[float, ...]


def square(slices: np.ndarray) -> np.ndarray:
    """Pad slices (Z, Y, X) in HU with air to squares, int16."""
    side = max(slices.shape[1:])
    pads = [((side - length) // 2, (side - length + 1) // 2) for length in slices.shape[1:]]
    return np.pad(np.rint(slices), ((0, 0), *pads), constant_values=-1024).clip(-1024, 3071).astype(np.int16)


def draw_example(
    volumes: Sequence[Volume],
    side: int,
    rng: np.random.Generator,
    doses: tuple[float, float] | None = None,
    projected_share: float = 0.0,
) -> Example:
    """Draw a square example with this side in pixels; 0 takes a whole slice as it is.

    With `doses`, the target is a scan at a dose higher by a factor drawn from this range, with the corresponding noise:
    no scanner makes a clean one. A network trained on it leaves that part of the noise, with its texture.
    A `projected_share` of the examples has projected noise, if the volume has it.
    """
    volume = volumes[int(rng.integers(len(volumes)))]
    index = int(rng.integers(len(volume.slices)))
    zoom = float(np.exp(rng.uniform(*np.log(_ZOOM)))) if side else 1.0
    projected = None
    if rng.random() < projected_share and volume.projected is not None:
        # On the pixels of its reconstruction: resampling would soften it.
        projected, zoom = int(rng.integers(1, len(volume.projected.slices) - 1)), 1.0
        index = int(volume.projected.slices[projected])
    taken = min(round(side * zoom), volume.side) if side else volume.side
    # Projected noise is cropped as it is, even if that is smaller than requested.
    side = taken if projected is not None else side or volume.side
    top, left = (int(value) for value in rng.integers(0, volume.side - taken + 1, 2))
    step = int(rng.choice(volume.steps)) * int(rng.choice((-1, 1)))
    chosen = [index, *(int(np.clip(index + at, 0, len(volume.slices) - 1)) for at in (-step, step))]
    pieces = volume.slices[chosen, top : top + taken, left : left + taken].astype(np.float32)
    clean = _resampled(pieces, side)
    pixel_mm = volume.pixel_mm * taken / side
    kernel = random_kernel(rng)
    clean = _through_kernel(clean, pixel_mm, kernel, rng)
    noise_hu = _noise_hu(rng)
    probes = random_probes(clean[0], noise_hu, rng)
    # Some extend into the neighbours, others end between slices.
    reaches = np.array([1, *(rng.random(2) < _REACHES)], np.float32)[:, None, None]

    target = clean[0]
    if projected is not None:
        own, rest, *others = np.float32(noise_hu) * volume.projected.draw(
            projected, (top, left), side, pixel_mm, kernel, rng
        )
        noise = np.stack((rest, *others))
    else:
        origin, place = volume.noise_shape(index), [value / volume.side for value in (top, left, taken, taken)]
        if rng.random() < _OTHER_ORIGIN:
            other = volumes[int(rng.integers(len(volumes)))]
            origin = other.noise_shape(int(rng.integers(len(other.slices))))
        shape = origin.crop(*place)
        noise = _neighbouring_noise(shape, side, pixel_mm, kernel, noise_hu, rng)
        own = noise_realisation(shape, (side, side), pixel_mm, kernel, noise_hu, rng) if doses else noise[0]
    if doses is not None:
        share = 1 / float(np.exp(rng.uniform(*np.log(doses))))
        noise[0] = np.float32(share**0.5) * own + np.float32((1 - share) ** 0.5) * noise[0]
        target = target + np.float32(share**0.5) * own
    without = clean + noise
    noisy = without + reaches * probes.signal
    copied: slice | int = slice(0, 0)
    if rng.random() < _ALONE:
        copied = slice(1, 3)
    elif rng.random() < _AT_AN_END:
        copied = int(rng.integers(1, 3))
    for images in (noisy, without):
        images[copied] = images[0]
    return Example(noisy, target + probes.signal, noise_hu, without, probes.signal, probes.labels, probes.visibility)


def _noise_hu(rng: np.random.Generator) -> float:
    if rng.random() < _ALMOST_CLEAN:
        return float(rng.uniform(0, NOISE_HU[0]))
    return float(np.exp(rng.uniform(*np.log(NOISE_HU))))


def _neighbouring_noise(
    shape: NoiseShape, side: int, pixel_mm: float, kernel: Kernel, noise_hu: float, rng: np.random.Generator
) -> np.ndarray:
    """Noise of three slices, (3, side, side): independent, or partly shared as in overlapping slices."""
    own = np.stack([noise_realisation(shape, (side, side), pixel_mm, kernel, noise_hu, rng) for _ in range(3)])
    if rng.random() < _SHARED_NOISE:
        share = float(rng.uniform(0, 0.6))
        own[1:] = share * own[0] + np.float32(np.sqrt(1 - share**2)) * own[1:]
    return own


def _resampled(pieces: np.ndarray, side: int) -> np.ndarray:
    taken = pieces.shape[1]
    if taken == side:
        return pieces
    mode, antialias = ("bilinear", True) if taken > side else ("bicubic", False)
    images = torch.from_numpy(pieces)[None]
    return functional.interpolate(images, size=(side, side), mode=mode, antialias=antialias)[0].numpy()


def _through_kernel(images: np.ndarray, pixel_mm: float, kernel: Kernel, rng: np.random.Generator) -> np.ndarray:
    """Blur some images, and give others the edge enhancement of their kernel: anatomy and noise share the kernel."""
    side = images.shape[1]
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    radius = np.hypot(fy, fx)
    if rng.random() < _BLURRED:
        gain = np.exp(-2 * (np.pi * rng.uniform(0.3, 1.3) * radius) ** 2)
    elif kernel.boost and rng.random() < _SHARPENED:
        falling = Kernel(kernel.half, kernel.steepness).apodisation(radius / pixel_mm)
        gain = np.minimum(kernel.apodisation(radius / pixel_mm) / np.maximum(falling, 1e-6), _LARGEST_GAIN)
    else:
        return images
    spectrum = torch.fft.rfft2(torch.from_numpy(images)) * torch.from_numpy(gain.astype(np.float32))
    return torch.fft.irfft2(spectrum, s=(side, side)).numpy()
