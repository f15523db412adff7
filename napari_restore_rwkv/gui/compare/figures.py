"""All figures and curves of the displayed slice, computed off the GUI thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...reliability.numbers import (
    Figure,
    against_reference,
    edge_width,
    in_regions,
    profile,
    region_spectrum,
    without_reference,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...reliability.numbers import Line
    from .shown_slice import ShownSlice

PROFILE, HISTOGRAM, SPECTRUM, OVER_SLICES = "line profile", "histogram", "noise spectrum", "over the slices"
REFERENCE, CLASSICAL = "reference", "classical"
BINS = 128
MIDDLE_PERCENT = (0.5, 99.5)
LEAST_SIDE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """The content of a plot: axis labels, and curves by name."""

    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Sequence[float] | np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The figures of a slice, and its plots by name.

    Attributes
    ----------
    figures
        Of input and restored.
    classical
        The same figures of the classical filter, in this order; empty if it is not shown.
    """

    figures: list[Figure]
    plots: dict[str, Curves]
    classical: list[float]


def measure(
    shown: ShownSlice, regions: list[np.ndarray], line: Line | None, window: tuple[float, float] | None
) -> Measured:
    """Measure a slice, and also its reference and its classical result, if it has them."""
    filtered = shown.others.get(CLASSICAL)
    others: list[float] = []
    # Figures of values that are not finite are undefined, and shown as such.
    with np.errstate(invalid="ignore"):
        if filtered is not None and np.isfinite(filtered[np.isfinite(shown.input)]).all():
            others = [figure.after for figure in _figures(shown, filtered, regions, line, window)]
        figures = _figures(shown, shown.restored, regions, line, window)
        return Measured(figures, _plots(shown, regions, line), others)


def _figures(
    shown: ShownSlice,
    after: np.ndarray,
    regions: list[np.ndarray],
    line: Line | None,
    window: tuple[float, float] | None,
) -> list[Figure]:
    pair, reference = (shown.input, after), shown.others.get(REFERENCE)
    figures = [] if reference is None else against_reference(*pair, reference, shown.unit, window)
    if min(shown.input.shape) >= LEAST_SIDE:
        figures += without_reference(*pair, shown.unit, shown.modality)
    figures += in_regions(*pair, regions, shown.unit, _pixel_mm(shown), reference, window)
    if line is not None:
        widths = (edge_width(image, line, shown.spacing_mm) for image in pair)
        figures.append(Figure.of("width of the edge along the line", widths, "mm"))
    return figures


def _plots(shown: ShownSlice, regions: list[np.ndarray], line: Line | None) -> dict[str, Curves]:
    unit = shown.unit or "value"
    images = {"input": shown.input, "restored": shown.restored}
    images |= {name: shown.others[name] for name in (REFERENCE, CLASSICAL) if name in shown.others}
    chosen = regions[0] if regions else np.ones(shown.input.shape, bool)
    plots = {HISTOGRAM: Curves(unit, "pixels", _histograms(images, chosen))}
    if line is not None:
        curves = {name: profile(image, line, shown.spacing_mm) for name, image in images.items()}
        plots[PROFILE] = Curves("mm along the line", unit, curves)
    if regions:
        spectra = {name: region_spectrum(image, regions[0], _pixel_mm(shown)) for name, image in images.items()}
        known = {name: found.radial() for name, found in spectra.items() if found is not None}
        if known:
            plots[SPECTRUM] = Curves("cycles per mm", f"{unit}² mm²", known)
    return plots


def _histograms(images: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    values = {name: image[chosen & np.isfinite(image)] for name, image in images.items()}
    together = np.concatenate(list(values.values()))
    if not together.size:
        return {}
    low, high = np.percentile(together, MIDDLE_PERCENT)
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    return {name: ((edges[1:] + edges[:-1]) / 2, np.histogram(one, edges)[0]) for name, one in values.items()}


def _pixel_mm(shown: ShownSlice) -> float:
    return float(np.sqrt(shown.spacing_mm[0] * shown.spacing_mm[1]))
