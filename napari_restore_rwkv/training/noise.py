"""Finding the simulated strength that matches the noise of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..progress import finish
from ..scans.noise.estimate import estimate_noise, middle, slice_noise
from ..scans.slice_axis import choose_slice_axis
from ..simulate.whole_scan import STRENGTHS, simulate
from .slices import Slices

if TYPE_CHECKING:
    from ..scans.scan import Scan

# Correlation of the noise of neighbouring slices: above the first value there is a warning, above the second an error.
NOTICEABLE_CORRELATION, LARGEST_CORRELATION = 0.15, 0.4

_FITTING_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Fit:
    """A strength of simulated degradation, with the wanted noise level and the one that it gives."""

    strength: float
    wanted: float
    reached: float


def noise_level(scan: Scan, axis: str = "auto") -> float:
    """Standard deviation of the noise in flat regions, in the unit of the scan; see `estimate_noise`."""
    return estimate_noise(scan, choose_slice_axis(scan, axis).axis).sigma


def fit_strength(reference: Scan, noisy: Scan, task: str, *, seed: int = 0, axis: str = "auto") -> Fit:
    """Find the strength at which the simulated degradation of a good scan has the noise of a given noisy one.

    Parameters
    ----------
    reference
        A good scan, of the modality of the task.
    noisy
        A scan with the wanted noise; it may be of another subject, at about the same pixel size.
    task
        "ct-denoise" or "pet-low-count".

    Raises
    ------
    ScanError
        If the task has no noise to fit, or the reference is as noisy as the noisy scan.
    """
    if task == "mri-sr":
        raise ScanError(
            "The loss of resolution of mri-sr cannot be estimated from the noise of a scan; give its strength."
        )
    wanted, own = noise_level(noisy, axis), noise_level(reference, axis)
    if wanted <= own:
        raise ScanError(
            f"The noisy scan has a noise of {wanted:.3g} {noisy.unit} and the reference {own:.3g}: there is nothing to "
            "add. Give a noisier scan, or a better reference."
        )
    slices = Slices(reference, choose_slice_axis(reference, axis).axis)
    limits = STRENGTHS[task]
    strength = limits.usual

    def level_of(index: int, strength: float) -> float:
        return slice_noise(degraded(slices, index, task, strength, seed), reference.modality).sigma

    for _ in range(_FITTING_ROUNDS):
        reached = float(np.median([level_of(i, strength) for i in middle(len(slices), 3)]))
        if abs(reached - wanted) < 0.02 * wanted:
            break
        # Noise variances add; that of CT grows with the square of its strength, that of PET in proportion to it.
        ratio = (wanted**2 - own**2) / max(reached**2 - own**2, 1e-6 * wanted**2)
        strength *= ratio ** (0.5 if task == "ct-denoise" else 1.0)
        strength = min(max(strength, limits.least), limits.most)
    return Fit(strength, wanted, reached)


def preview_degradation(reference: Scan, index: int, task: str, strength: float) -> np.ndarray:
    """One slice as seen by fine-tuning from a reference: float32 (Y, X) in the unit of the scan."""
    return degraded(Slices(reference, choose_slice_axis(reference).axis), index, task, strength, seed=0)


def degraded(slices: Slices, index: int, task: str, strength: float, seed: int) -> np.ndarray:
    """Simulate the degradation of one slice, float32 (Y, X)."""
    number = int(np.random.default_rng((seed, index)).integers(2**31))
    worse = finish(simulate(slices.alone(index), task, seed=number, strength=strength))
    return np.asarray(worse.voxels[0], np.float32)
