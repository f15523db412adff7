"""Training data for MR super-resolution: slices in another contrast and sampling, and these at a lower resolution."""

from __future__ import annotations

import numpy as np

from napari_restore_rwkv.image_quality.mr_phantoms import Shape, acquired, k_space
from napari_restore_rwkv.simulate.mri import kept_block, low_resolution, resampled

from .contrast import random_contrast, random_shading

FACTORS = (1.8, 4.3)
MOST_NOISE = 0.02
_RIM = 5
CT_WINDOWS_HU = ((-160.0, 240.0), (-1000.0, 400.0), (-200.0, 1200.0))


def random_phantom(side: int, rng: np.random.Generator) -> np.ndarray:
    """Ellipses and bars of every size and contrast, measured in continuous k-space; shape (side, side), float32.

    Their edges lie anywhere between pixels, and ring as those of a scanner with this matrix; see `mr_phantoms`.
    """
    head = rng.uniform(0.3, 0.44, 2)
    shapes = [Shape(rng.uniform(0.3, 1), 0, 0, *head)]
    for _ in range(rng.integers(4, 25)):
        half = head * np.exp(rng.uniform(np.log(0.02), np.log(0.5), 2))
        y, x = (head - half) * rng.uniform(-0.8, 0.8, 2)
        shapes.append(Shape(rng.uniform(-0.5, 0.5), y, x, *half, bar=rng.random() < 0.3))
    return acquired(k_space(shapes, side))


def sharp_slice(
    image: np.ndarray, grids: tuple[float, float], side: int, rng: np.random.Generator, apodised: float
) -> np.ndarray:
    """A target: the slice in another contrast, shading, orientation and sampling, as `displayed`."""
    unit = _unit_values(image, rng)
    unit = random_contrast(unit, rng)
    if rng.random() < 0.5:
        unit = random_shading(unit, rng)
    unit = unit[tuple(slice(None, None, step) for step in rng.choice((-1, 1), size=2))]
    unit = unit.T if rng.random() < 0.5 else unit
    coarser = rng.uniform(*grids)
    # Voxels need not be square, and a large crop needs enough of a slice to fill it.
    stretch = np.exp(rng.uniform(-0.12, 0.12, 2))
    shape = [
        round(max(length / (coarser * by), min(0.8 * side, 1.3 * length)))
        for length, by in zip(unit.shape, stretch, strict=True)
    ]
    sharp = resampled(unit, (shape[0], shape[1]))
    return displayed(sharp, rng, apodised)


def displayed(sharp: np.ndarray, rng: np.random.Generator, apodised: float) -> np.ndarray:
    """A target as a scanner would store it: perhaps apodised, and of any brightness."""
    if rng.random() < apodised:
        sharp = _apodised(sharp, rng)
    # The robust rule puts the 99.9th percentile at 0.6; scans on the scanner's own scale may be anywhere.
    level = 0.6 if rng.random() < 0.4 else np.exp(rng.uniform(np.log(0.12), np.log(0.9)))
    brightest = max(float(np.percentile(sharp, 99.9)), 0.02)
    return np.minimum(sharp * np.float32(level / brightest), 1)


def lowered(sharp: np.ndarray, rng: np.random.Generator, usual: float) -> tuple[np.ndarray, np.ndarray]:
    """The slice at a lower resolution, and which of its coefficients were measured."""
    factors = [float(rng.choice((2, 3, 4))) if rng.random() < usual else float(rng.uniform(*FACTORS)) for _ in range(2)]
    if rng.random() < 0.8:
        factors[1] = factors[0]
    elif rng.random() < 0.3:
        factors[int(rng.integers(2))] = 1.0
    noise = 0.0 if rng.random() < 0.3 else rng.uniform(0, MOST_NOISE) * float(np.percentile(sharp, 99.9))
    factor = (factors[0], factors[1])
    measured = np.zeros(sharp.shape, bool)
    measured[kept_block(sharp.shape, factor)] = True
    return np.minimum(low_resolution(sharp, factor, noise, seed=rng), 1), measured


def field_of_view(sharp: np.ndarray, shape: tuple[int, int], rng: np.random.Generator, faded: float) -> np.ndarray:
    """Crop to a shape, mirrored at its end if the slice is too small.

    A fraction `faded` fades to black at the rim, as where the object ends inside the field of view. Where it does not,
    the Fourier transform, which is periodic, has an edge there, whose ringing reaches across to the opposite side.
    """
    free = [max(0, length - side) for length, side in zip(sharp.shape, shape, strict=True)]
    corners = [[int(rng.integers(most + 1)) for most in free] for _ in range(2)]
    # The fuller of two positions: there is nothing to learn from air.
    pieces = [sharp[y : y + shape[0], x : x + shape[1]] for y, x in corners]
    piece = max(pieces, key=lambda one: float(one.std()))
    pads = [(0, side - length) for side, length in zip(shape, piece.shape, strict=True)]
    whole = np.pad(piece, pads, mode="symmetric")
    return whole * _rim(shape[0])[:, None] * _rim(shape[1]) if rng.random() < faded else whole


def _rim(side: int) -> np.ndarray:
    """Weights along an axis that fall to zero at its ends."""
    pixels = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    return (0.5 - 0.5 * np.cos(np.pi * (pixels / _RIM).clip(0, 1))).astype(np.float32)


def _unit_values(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From 0 to 1; noise fills the integer steps, which another contrast would otherwise turn into contours."""
    values = image + rng.uniform(-0.5, 0.5, image.shape).astype(np.float32)
    low, high = CT_WINDOWS_HU[rng.choice(len(CT_WINDOWS_HU))] if image.dtype == np.int16 else (0.0, 255.0)
    return ((values - low) / (high - low)).clip(0, 1).astype(np.float32)


def _apodised(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Taper the highest frequencies along each axis, as many scanners do before displaying an image."""
    end = rng.uniform(0.36, 0.6)
    start = end - rng.uniform(0.04, 0.25)
    spectrum = np.fft.fft2(image)
    for axis, size in enumerate(image.shape):
        frequency = np.abs(np.fft.fftfreq(size))
        taper = 0.5 + 0.5 * np.cos(np.pi * ((frequency - start) / (end - start)).clip(0, 1))
        spectrum *= np.expand_dims(taper, 1 - axis)
    return np.abs(np.fft.ifft2(spectrum)).astype(np.float32)
