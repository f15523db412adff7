"""The measured part of k-space in an MR slice, what a restoration did to it, and what it added beyond.

A slice that was acquired at a lower resolution and interpolated has nothing beyond the measured frequencies
(`measured_extent`). Within them a restoration can be compared with a measurement; what is beyond was added by the
network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..restoration.kspace import measured_coefficients, measured_extent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..restoration.kspace import Extent

# This many decades below the strongest coefficient are distinguished in the picture.
_DECADES = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredPart:
    """The k-space of a restored slice.

    Attributes
    ----------
    extent
        Highest measured cycles per field of view along y and x; None if no end of the measured part is found.
    share
        Fraction of all coefficients that were measured, 0 to 1.
    changed
        Root mean square of the change within the measured part, over that of the part itself without its mean.
    added
        Energy of the change beyond the measured part, over that of the restored slice without its mean.
    picture
        Shape (Y, X), float32, frequency 0 at the centre: the logarithm of the magnitude of each coefficient, from 0 for
        the weakest to 1, and as negative numbers where nothing was measured.
    """

    extent: Extent | None
    share: float
    changed: float
    added: float
    picture: NDArray[np.float32]


def measured_part(before: np.ndarray, after: np.ndarray) -> MeasuredPart:
    """Compare a slice with its restoration in k-space; both of shape (Y, X), finite, in one unit."""
    one, other = (np.fft.fft2(image.astype(np.float64)) for image in (before, after))
    extent = measured_extent(before)
    inside = np.ones(before.shape, bool) if extent is None else measured_coefficients(before.shape, extent)
    size = np.abs(other)
    strongest = float(size.max()) or 1.0
    level = np.clip(1 + np.log10(np.maximum(size / strongest, 10.0**-_DECADES)) / _DECADES, 0, 1)
    picture = np.fft.fftshift(np.where(inside, level, -level)).astype(np.float32)
    # The mean of a slice outweighs everything else, and is not in doubt.
    without_mean = np.ones(before.shape, bool)
    without_mean[0, 0] = False
    change, chosen = np.abs(other - one) ** 2, inside & without_mean
    whole, own = float((np.abs(other) ** 2)[without_mean].sum()), float((np.abs(one) ** 2)[chosen].sum())
    changed = float(np.sqrt(change[chosen].sum() / own)) if own > 0 else 0.0
    added = float(change[~inside].sum()) / whole if whole > 0 else 0.0
    return MeasuredPart(extent, float(inside.mean()), changed, added, picture)


def in_words(part: MeasuredPart) -> str:
    """Return what was measured, changed, and added, in two sentences."""
    if part.extent is None:
        return (
            "No end of the measured part was found: either all of k-space was measured, or its end cannot be detected. "
            f"The restoration changed it by {part.changed:.1%}."
        )
    rows, columns = part.extent
    return (
        f"Measured: up to {rows} cycles along y and {columns} along x, {part.share:.0%} of k-space; the restoration "
        f"changed it by {part.changed:.1%}. Beyond it {part.added:.2%} of the energy was added by the network."
    )
