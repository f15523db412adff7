"""The noise of a scan, for networks that use it, and how much may be removed given that noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..network.checkpoint import NOISE_KEPT, OWN_ERROR
from ..network.restorer import card_of
from ..scans.noise.estimate import estimate_noise, slice_noise
from .context import uses_context

if TYPE_CHECKING:
    from torch import nn

    from ..scans.noise.estimate import Noise
    from ..scans.scan import Scan

# In parts of a slice noise is stronger than in its flat regions by up to this factor, and estimates are off by a fifth.
_MOST_REMOVED = 1.5


def known_noise(scan: Scan, network: nn.Module, axis: int, noise: float | None) -> float | None:
    """Return the standard deviation of the noise in the unit of the scan: as given, or as measured.

    None if the network does not use it, or if it was not given and cannot be measured.

    Raises
    ------
    ScanError
        If the given noise is negative or not a number.
    """
    if noise is not None and not 0 <= noise < np.inf:
        raise ScanError(f"The noise of a scan must be a standard deviation of 0 or more; got {noise:g}.")
    if not uses_context(network):
        return None
    if noise is not None:
        return float(noise)
    measured = measured_noise(scan, axis)
    return None if measured is None else measured.sigma


def measured_noise(scan: Scan, axis: int) -> Noise | None:
    """Measure the noise of a scan; None if its slices have too few pixels for that."""
    try:
        return estimate_noise(scan, axis)
    except ScanError:
        return None


def share_to_remove(network: nn.Module, noise: float | None) -> float:
    """Return what fraction of its change a network should apply to a scan with this noise, 0 to 1.

    A network itself has some error e where there is nothing to remove. Of two estimates of a voxel, the measured one
    with the error sigma and the restored one with the error e, the best mean gives the restored one the weight
    sigma^2 / (sigma^2 + e^2): almost 1 in a noisy scan, little where there was little noise. Exactly 1 if the noise
    is unknown, or if the card of the network does not state its error.

    The result with the least squared error looks waxy, because the noise left in it is coarser than that of the scan.
    Weights whose card says so leave a fraction of the noise in, as scanners blend iterative reconstructions with
    filtered back projection; that fraction is accounted for here as well.
    """
    kept, own = noise_kept(network), own_error(network)
    best = 1.0 if noise is None or own == 0 else noise**2 / (noise**2 + own**2)
    return (1 - kept) * best


def own_error(network: nn.Module) -> float:
    """Return the error of a network where there is no noise, in the unit of the scan; 0 if its card has none."""
    return float(card_of(network).details.get(OWN_ERROR, 0.0))


def noise_kept(network: nn.Module) -> float:
    """Return the fraction of the noise that a network leaves in to preserve its texture; 0 if its card states none."""
    return float(card_of(network).details.get(NOISE_KEPT, 0.0))


def limited_removal(image: np.ndarray, restored: np.ndarray, noise: float, modality: str | None) -> np.ndarray:
    """Scale what was removed from a slice down to what its noise accounts for; the rest was anatomy.

    Parameters
    ----------
    image, restored
        The slice before and after, shape (Y, X), in the unit of the scan.
    noise
        Standard deviation of the scan's noise in that unit.
    modality
        Of the scan, as `slice_noise` takes it.

    Returns
    -------
    ndarray
        `restored` itself where the root mean square of the change is at most 1.5 times the noise of the scan or, if
        that is higher, of this slice; otherwise ``image + a (restored - image)``, with a < 1 such that it is.
    """
    change = restored.astype(np.float64) - image
    known = np.isfinite(change)
    removed = float(np.sqrt(np.square(change[known]).mean())) if known.any() else 0.0
    if removed <= _MOST_REMOVED * noise:
        return restored
    try:
        allowed = _MOST_REMOVED * max(noise, slice_noise(image, modality).sigma)
    except ScanError:
        return restored
    if removed <= allowed:
        return restored
    return np.where(known, image + (allowed / removed) * change, restored).astype(np.float32)
