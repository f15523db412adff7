"""Figures of one slice before and after: against a reference, in regions, and along a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..image_quality.noise_spectrum import NoiseSpectrum
from ..image_quality.uptake import suv_max, suv_peak
from ..scans.noise.estimate import slice_noise
from .scores import data_range, scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_SAMPLES_PER_PIXEL = 4
_END, _LOW, _HIGH = 0.2, 0.1, 0.9
_LEAST_SPECTRUM = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a slice before and after; nan if undefined.

    Attributes
    ----------
    measure
        What it is, with its region.
    before, after
        Of the input and of the restored slice.
    unit
        "" if it has none.
    place
        Row and column of the centre of the region that it is about; None if it is about the whole slice.
    value_range, window
        The values that it was computed from, in words; "" if that is irrelevant.
    high_is_good
        Whether high values are good.
    """

    measure: str
    before: float
    after: float
    unit: str = ""
    place: tuple[float, float] | None = None
    value_range: str = ""
    window: str = ""
    high_is_good: bool = False

    @property
    def name(self) -> str:
        """What it is, with its region, range and window."""
        return ", ".join(part for part in (self.measure, self.value_range, self.window) if part)

    @classmethod
    def of(
        cls, measure: str, values: Iterable[float], unit: str = "", place: tuple[float, float] | None = None
    ) -> Figure:
        """Make a figure from two values, before and after."""
        before, after = values
        return cls(measure, before, after, unit, place)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line across a slice, from one place (row, column) to another, in pixels."""

    start: tuple[float, float]
    stop: tuple[float, float]


def against_reference(
    before: np.ndarray,
    after: np.ndarray,
    reference: np.ndarray,
    unit: str,
    window: tuple[float, float] | None,
    inside: NDArray[np.bool_] | None = None,
    where: str = "",
) -> list[Figure]:
    """PSNR, SSIM, RMSE, NRMSE, HaarPSI of two slices (Y, X) against a third, after clipping to the window.

    Parameters
    ----------
    inside
        The pixels that count, shape (Y, X), not empty; None for all.
    where
        Their name, such as " in region 1".
    """
    one, other = (scores(image, reference, window, inside) for image in (before, after))
    cut = "" if window is None else f"window {window[0]:g} to {window[1]:g}"
    range_text = f"range {data_range(reference, window):.4g} {unit}".rstrip()
    place = None if inside is None else _middle(inside)
    return [
        Figure(f"PSNR{where}", one.psnr, other.psnr, "dB", place, range_text, cut, high_is_good=True),
        Figure(f"SSIM{where}", one.ssim, other.ssim, "", place, range_text, cut, high_is_good=True),
        Figure(f"RMSE{where}", one.rmse, other.rmse, unit, place, "", cut),
        Figure(f"NRMSE{where}", one.nrmse, other.nrmse, "", place, range_text, cut),
        Figure(f"HaarPSI{where}", one.haarpsi, other.haarpsi, "", place, range_text, cut, high_is_good=True),
    ]


def without_reference(before: np.ndarray, after: np.ndarray, unit: str, modality: str | None) -> list[Figure]:
    """Noise in flat regions, and the mean, of two slices (Y, X) of at least 16 x 16 pixels."""
    noise = [slice_noise(image, modality).sigma for image in (before, after)]
    return [
        Figure("noise in flat regions", noise[0], noise[1], unit),
        Figure("mean of the slice", float(np.nanmean(before)), float(np.nanmean(after)), unit),
    ]


def in_regions(
    before: np.ndarray,
    after: np.ndarray,
    regions: Sequence[NDArray[np.bool_]],
    unit: str,
    pixel_mm: float,
    reference: np.ndarray | None = None,
    window: tuple[float, float] | None = None,
) -> list[Figure]:
    """Mean and deviation of each region, SUVmax and SUVpeak of PET, figures against a reference, and contrast of two.

    Parameters
    ----------
    regions
        Masks (Y, X), none of them empty; the contrast-to-noise ratio is that of the first two.
    pixel_mm
        Side of a pixel.
    reference, window
        The reference for both, (Y, X), and the window that all are clipped to.
    """
    images, found = (before, after), []
    for number, region in enumerate(regions, start=1):
        values, place = [image[region] for image in images], _middle(region)
        found += [
            Figure.of(f"mean of region {number}", (float(one.mean()) for one in values), unit, place),
            Figure.of(f"deviation in region {number}", (float(one.std()) for one in values), unit, place),
        ]
        if unit == "SUV":
            most, peak = (suv_max(image, region) for image in images), (suv_peak(i, region, pixel_mm) for i in images)
            found += [
                Figure.of(f"SUVmax of region {number}", most, unit, place),
                Figure.of(f"SUVpeak of region {number}", peak, unit, place),
            ]
        if reference is not None:
            found += against_reference(*images, reference, unit, window, region, f" in region {number}")
    if len(regions) > 1:
        found.append(
            Figure.of("contrast to noise, 1 and 2", (contrast_to_noise(image, *regions[:2]) for image in images))
        )
    return found


def _middle(region: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(region)
    return float(rows.mean()), float(columns.mean())


def contrast_to_noise(image: np.ndarray, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return ``|m1 - m2| / sqrt((s1^2 + s2^2) / 2)`` of two regions; nan if neither has any noise."""
    first, second = image[one].astype(np.float64), image[other].astype(np.float64)
    noise = float(np.sqrt((first.var() + second.var()) / 2))
    return float(abs(first.mean() - second.mean()) / noise) if noise > 0 else float("nan")


def profile(image: np.ndarray, line: Line, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return distances in mm and values along a line, bilinear between pixels, with edge values outside."""
    start, stop = np.asarray(line.start, float), np.asarray(line.stop, float)
    count = max(2, round(_SAMPLES_PER_PIXEL * float(np.hypot(*(stop - start)))) + 1)
    part = np.linspace(0, 1, count)
    rows, columns = (start[at] + part * (stop[at] - start[at]) for at in (0, 1))
    length = float(np.hypot(*((stop - start) * np.asarray(spacing_mm))))
    return part * length, _between(image, rows, columns)


def edge_width(image: np.ndarray, line: Line, spacing_mm: tuple[float, float]) -> float:
    """Return the width in mm over which a line rises from 10 to 90 % of an edge; nan if there is no edge.

    Dark and bright are the means over the first and the last fifth of the line.
    """
    distance, values = profile(image, line, spacing_mm)
    fifth = max(1, int(_END * len(values)))
    low, high = float(values[:fifth].mean()), float(values[-fifth:].mean())
    if high == low:
        return float("nan")
    share = (values - low) / (high - low)
    middle = int(np.argmax(share >= 0.5))
    below = np.flatnonzero(share[:middle] <= _LOW)
    above = np.flatnonzero(share[middle:] >= _HIGH)
    if not (below.size and above.size):
        return float("nan")
    return _crossing(distance, share, middle + above[0] - 1, _HIGH) - _crossing(distance, share, below[-1], _LOW)


def region_spectrum(image: np.ndarray, region: NDArray[np.bool_], pixel_mm: float) -> NoiseSpectrum | None:
    """Noise power spectrum of the largest square at the centre of a region's bounds; None if it is under 8 pixels.

    A plane is subtracted first, and the ends are tapered.
    """
    rows, columns = np.nonzero(region)
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    side = min(height, width)
    if side < _LEAST_SPECTRUM:
        return None
    top, left = int(rows.min()) + (height - side) // 2, int(columns.min()) + (width - side) // 2
    square = image[top : top + side, left : left + side].astype(np.float64)
    along = np.arange(side) - (side - 1) / 2
    square = square - square.mean()
    for slope in (along[:, None], along[None, :]):
        square = square - slope * (square * slope).mean() / (along**2).mean()
    taper = np.hanning(side + 2)[1:-1]
    window = taper[:, None] * taper
    power = np.abs(np.fft.fft2(square * window)) ** 2 / (window**2).mean()
    return NoiseSpectrum(power * pixel_mm**2 / side**2, pixel_mm)


def _between(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    height, width = image.shape
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = (
        np.minimum(np.floor(at).astype(int), max(size - 2, 0)) for at, size in ((rows, height), (columns, width))
    )
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down, along = rows - top, columns - left
    upper = (1 - along) * image[top, left] + along * image[top, right]
    lower = (1 - along) * image[bottom, left] + along * image[bottom, right]
    return (1 - down) * upper + down * lower


def _crossing(distance: np.ndarray, share: np.ndarray, at: int, level: float) -> float:
    at = max(at, 0)
    rise = float(share[at + 1] - share[at])
    part = (level - float(share[at])) / rise if rise else 0.0
    return float(distance[at] + part * (distance[at + 1] - distance[at]))
