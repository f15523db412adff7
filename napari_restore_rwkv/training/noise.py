"""How strong the noise of a scan is, whether neighbouring slices share it, and how to simulate as much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..progress import finish
from ..scans.slice_axis import choose_slice_axis
from ..simulate.whole_scan import STRENGTHS, simulate
from .slices import Slices

if TYPE_CHECKING:
    from ..scans.scan import Scan

# Correlation of the noise of neighbouring slices: from the first on it is mentioned, from the second on refused.
NOTICEABLE_CORRELATION, LARGEST_CORRELATION = 0.15, 0.4

_BLOCK = 8
_SLICES = 5
_FLATTEST = 0.25  # of the blocks inside the body
_FITTING_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Fit:
    """A strength of simulated degradation, with the noise level that was wanted and the one that it gives."""

    strength: float
    wanted: float
    reached: float


def noise_level(scan: Scan, axis: str = "auto") -> float:
    """Standard deviation of the noise in homogeneous regions, in the unit of the scan.

    Slices are cut into blocks of 8x8 pixels. Of those inside the body, the deviation from a plane is taken; a quarter
    of the blocks are flatter than the value that is returned, which is the median of five slices.

    Raises
    ------
    ScanError
        If the slices are smaller than 16x16 pixels.
    """
    slices = Slices(scan, choose_slice_axis(scan, axis).axis)
    return float(np.median([_level(slices.read(i)) for i in _middle(len(slices), _SLICES)]))


def neighbour_correlation(scan: Scan, axis: str = "auto", distance: int = 1) -> float:
    """Correlation of the noise of slices at a distance, from -1 to 1: near 0 where each slice has its own.

    Only the finest detail of homogeneous blocks is compared, where there is next to no anatomy, and the median taken
    over blocks and slices. Overlapping or interpolated slices share noise, and then one says nothing about the noise of
    the other. 0 where there is no noise.
    """
    slices = Slices(scan, choose_slice_axis(scan, axis).axis)
    found = [0.0]
    for i in _middle(len(slices) - distance, _SLICES):
        one, other = slices.read(i), slices.read(i + distance)
        flat = _flat(one) & _flat(other)
        first, second = (_blocks(_finest(image))[flat].reshape(-1, _BLOCK**2) for image in (one, other))
        size = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
        if (size > 0).any():
            found.append(float(np.median((first * second).sum(axis=1)[size > 0] / size[size > 0])))
    return float(np.median(found[1:] or found))


def fit_strength(reference: Scan, noisy: Scan, task: str, *, seed: int = 0, axis: str = "auto") -> Fit:
    """Find the strength at which the simulated degradation of a good scan has the noise of a chosen noisy one.

    Parameters
    ----------
    reference
        A good scan, of the modality of the task.
    noisy
        A scan with the noise that is wanted; it may show another subject, at about the same pixel size.
    task
        "ct-denoise" or "pet-low-count".

    Raises
    ------
    ScanError
        If the task has no noise to fit, or the reference is as noisy as the noisy scan.
    """
    if task == "mri-sr":
        raise ScanError("The loss of resolution of mri-sr cannot be read off the noise of a scan; give its strength.")
    wanted, own = noise_level(noisy, axis), noise_level(reference, axis)
    if wanted <= own:
        raise ScanError(
            f"The noisy scan has a noise of {wanted:.3g} {noisy.unit} and the reference {own:.3g}: there is nothing to "
            "add. Give a noisier scan, or a better reference."
        )
    slices = Slices(reference, choose_slice_axis(reference, axis).axis)
    limits = STRENGTHS[task]
    strength = limits.usual
    for _ in range(_FITTING_ROUNDS):
        reached = float(np.median([_level(degraded(slices, i, task, strength, seed)) for i in _middle(len(slices), 3)]))
        if abs(reached - wanted) < 0.02 * wanted:
            break
        # Noise variances add up; that of CT grows with the square of its strength, that of PET in proportion to it.
        ratio = (wanted**2 - own**2) / max(reached**2 - own**2, 1e-6 * wanted**2)
        strength *= ratio ** (0.5 if task == "ct-denoise" else 1.0)
        strength = min(max(strength, limits.least), limits.most)
    return Fit(strength, wanted, reached)


def preview_degradation(
    reference: Scan, index: int, task: str, strength: float, *, seed: int = 0, axis: str = "auto"
) -> np.ndarray:
    """One slice as fine-tuning from a reference will see it: float32 (Y, X) in the unit of the scan."""
    return degraded(Slices(reference, choose_slice_axis(reference, axis).axis), index, task, strength, seed)


def degraded(slices: Slices, index: int, task: str, strength: float, seed: int) -> np.ndarray:
    """Simulate the degradation of one slice, float32 (Y, X)."""
    number = int(np.random.default_rng((seed, index)).integers(2**31))
    worse = finish(simulate(slices.alone(index), task, seed=number, strength=strength))
    return np.asarray(worse.voxels[0], np.float32)


def box_mean(image: np.ndarray, radius: int = 3) -> np.ndarray:
    """Mean over (2 radius + 1)^2 pixels, mirrored at the border; float64 in the same shape."""
    padded = np.pad(np.asarray(image, np.float64), radius, mode="symmetric")
    total = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    side = 2 * radius + 1
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return sums / side**2


def _level(image: np.ndarray) -> float:
    blocks = _blocks(_checked(image))
    deviations = _deviation(blocks)[_inside(blocks)]
    return float(np.quantile(deviations, _FLATTEST)) if deviations.size else 0.0


def _flat(image: np.ndarray) -> np.ndarray:
    """Which blocks are among the flattest quarter of those inside the body, (rows, columns) of blocks."""
    blocks = _blocks(_checked(image))
    inside, deviations = _inside(blocks), _deviation(blocks)
    return inside & (deviations <= (np.quantile(deviations[inside], 0.5) if inside.any() else 0))


def _blocks(image: np.ndarray) -> np.ndarray:
    """Cut into blocks: (rows, columns, 8, 8)."""
    rows, columns = (side // _BLOCK for side in image.shape)
    cut = image[: rows * _BLOCK, : columns * _BLOCK]
    return cut.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)


def _inside(blocks: np.ndarray) -> np.ndarray:
    """Blocks of the body: brighter than a third of the way from the dark to the bright."""
    means = blocks.mean(axis=(2, 3))
    dark, bright = np.quantile(means, (0.02, 0.98))
    return means >= dark + (bright - dark) / 3


def _deviation(blocks: np.ndarray) -> np.ndarray:
    """Deviation of each block from its plane, unbiased for white noise."""
    offsets = np.arange(_BLOCK) - (_BLOCK - 1) / 2
    square = float((offsets**2).sum()) * _BLOCK
    centred = blocks - blocks.mean(axis=(2, 3), keepdims=True)
    tilt_y = np.einsum("rcyx,y->rc", centred, offsets)[..., None, None] * offsets[:, None] / square
    tilt_x = np.einsum("rcyx,x->rc", centred, offsets)[..., None, None] * offsets[None, :] / square
    rest = centred - tilt_y - tilt_x
    return np.sqrt((rest**2).sum(axis=(2, 3)) / (_BLOCK**2 - 3))


def _finest(image: np.ndarray) -> np.ndarray:
    """Diagonal differences of neighbouring pixels, in the same shape: what is left has next to no anatomy."""
    values = np.pad(_checked(image), ((0, 1), (0, 1)), mode="edge")
    return values[:-1, :-1] - values[1:, :-1] - values[:-1, 1:] + values[1:, 1:]


def _checked(image: np.ndarray) -> np.ndarray:
    if min(image.shape) < 2 * _BLOCK:
        raise ScanError(
            f"Noise cannot be measured in slices of {image.shape[0]} x {image.shape[1]} pixels; "
            f"{2 * _BLOCK} along each side are needed."
        )
    return np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)


def _middle(count: int, most: int) -> list[int]:
    """At most so many numbers from 0 to count - 1, spread over the middle half."""
    if count <= most:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(count / 4, 3 * count / 4, most).round()})
