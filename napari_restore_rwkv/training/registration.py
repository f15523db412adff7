"""Whether a degraded scan and its reference show the same anatomy at the same position.

The shift is found by phase correlation: the peak of F^-1(F a* F b / |F a* F b|), summed over several slices before the
peak is sought. High frequencies are weighted down, since the degraded scan has only noise, or nothing, there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ScanError
from ..scans.slice_axis import evenly_spaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..scans.scan import Scan
    from .slices import Slices

LARGEST_SHIFT = 1.0  # pixels
_SLICES_COMPARED, _SLICES_MATCHED = 5, 12
_BANDWIDTH = 0.12  # cycles per pixel


@dataclass(frozen=True, slots=True)
class Shift:
    """Offset of the degraded scan from its reference, in pixels along the row and the column index."""

    y: float
    x: float

    @property
    def length(self) -> float:
        """Distance in pixels."""
        return float(np.hypot(self.y, self.x))


def check_pair(degraded: Scan, target: Scan) -> None:
    """Raise ScanError unless two scans have the same shape, spacing (within 1 %) and modality."""
    if tuple(degraded.shape) != tuple(target.shape):
        raise ScanError(
            f"The degraded scan has {_voxels(degraded)} voxels and its reference {_voxels(target)}; "
            "resample one to the grid of the other."
        )
    if not np.allclose(degraded.spacing_mm, target.spacing_mm, rtol=0.01, atol=0):
        raise ScanError(
            f"The voxels of the degraded scan are {_millimetres(degraded)} and those of its reference "
            f"{_millimetres(target)}; resample one to the grid of the other."
        )
    if None not in (degraded.modality, target.modality) and degraded.modality != target.modality:
        raise ScanError(
            f"The degraded scan is {degraded.modality} and its reference {target.modality}; "
            "give two scans of the same modality."
        )


def estimated_shift(degraded: Slices, target: Slices) -> Shift:
    """Find the in-plane shift of one scan relative to the other, to about 0.1 pixel; 0 if both are flat."""
    height, width = degraded.plane
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    weight = np.exp(-((frequencies / _BANDWIDTH) ** 2) / 2)
    total = np.zeros((height, width), complex)
    for i in evenly_spaced(len(degraded), _SLICES_COMPARED):
        first, second = (_spectrum(scan.read(i), window) for scan in (target, degraded))
        product = np.conj(first) * second
        size = np.abs(product)
        total += np.where(size > 1e-9 * size.max(initial=0), product / np.maximum(size, 1e-30), 0)
    if not total.any():
        return Shift(0.0, 0.0)
    surface = np.fft.ifft2(total * weight).real
    row, column = (int(i) for i in np.unravel_index(surface.argmax(), surface.shape))
    return Shift(_vertex(surface[:, column], row), _vertex(surface[row, :], column))


def check_shift(shift: Shift, force: bool) -> str:
    """Raise ScanError for more than a pixel unless forced; return a warning if it was forced, else ""."""
    if shift.length <= LARGEST_SHIFT:
        return ""
    words = (
        f"The degraded scan is shifted relative to its reference by {shift.y:.1f} rows and {shift.x:.1f} columns; "
        f"{LARGEST_SHIFT:g} pixel is the most that can be trained on without blurring"
    )
    if not force:
        raise ScanError(f"{words}. Register the two scans, or force it.")
    return f"{words}: forced."


def mismatched(pairs: Sequence[tuple[Slices, Slices]]) -> str:
    """Say why the slices of the two scans cannot belong together: most match another slice better; else ""."""
    places = [(m, i) for m, (degraded, _) in enumerate(pairs) for i in range(len(degraded))]
    chosen = [places[i] for i in evenly_spaced(len(places), _SLICES_MATCHED)]
    shape = pairs[0][0].plane
    chosen = [(m, i) for m, i in chosen if pairs[m][0].plane == shape]
    own = [_thumbnail(pairs[m][0].read(i)) for m, i in chosen]
    reference = [_thumbnail(pairs[m][1].read(i)) for m, i in chosen]
    likeness = np.array([[float((a * b).sum()) for b in reference] for a in own])
    if len(chosen) < 3 or not likeness.any():
        return ""
    strangers = sum(int(row.argmax()) != i for i, row in enumerate(likeness))
    if strangers <= len(chosen) / 2:
        return ""
    return (
        f"{strangers} of {len(chosen)} degraded slices look more like the reference of another slice than their "
        "own, so the pairs do not belong together"
    )


def _spectrum(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    return np.fft.fft2((values - values.mean()) * window)


def _vertex(line: np.ndarray, at: int) -> float:
    """Where the parabola through a peak and its two neighbours is highest, as a signed shift."""
    size = len(line)
    left, middle, right = (float(line[(at + offset) % size]) for offset in (-1, 0, 1))
    bend = left - 2 * middle + right
    place = at + (0.5 * (left - right) / bend if bend < 0 else 0.0)
    return place - size if place > size / 2 else place


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Means over 4x4 pixels, without the overall mean, of length 1; zeros for a flat image."""
    height, width = (side // 4 * 4 for side in image.shape)
    values = np.nan_to_num(np.asarray(image[:height, :width], np.float64), posinf=0, neginf=0)
    small = values.reshape(height // 4, 4, width // 4, 4).mean(axis=(1, 3))
    small -= small.mean()
    length = float(np.sqrt((small**2).sum()))
    return small / length if length > 1e-9 else np.zeros_like(small)


def _voxels(scan: Any) -> str:
    return " x ".join(map(str, scan.shape))


def _millimetres(scan: Scan) -> str:
    return " x ".join(f"{side:g}" for side in scan.spacing_mm) + " mm"
