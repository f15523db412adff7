"""The report on one page: the slice to look at first, and curves over all slices; drawn without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..image_quality.canvas import page
from .removed import CERTAIN, DOUBTFUL
from .report import CT_WINDOW_HU

if TYPE_CHECKING:
    from pathlib import Path

    from .report import Report, SliceReport


def first_to_look_at(report: Report) -> SliceReport:
    """Return the most suspicious slice, or the middle one if none is suspicious."""
    suspicious = report.suspicious()
    return suspicious[0] if suspicious else report.slices[len(report.slices) // 2]


def draw_page(report: Report, before: np.ndarray, after: np.ndarray, title: str, path: Path) -> None:
    """Draw a report with its `first_to_look_at`, (Y, X) before and after, into a .png or .pdf file.

    Raises
    ------
    OutputError
        If matplotlib is missing, or the file cannot be written.
    """
    with page(12, 8, [path]) as figure:
        figure.suptitle(f"{title}\nResearch use only. Not for diagnosis.")
        axes = figure.subplots(2, 3)
        one = first_to_look_at(report)
        _draw_images(axes[0], figure, report, one, before, after)
        _draw_curves(axes[1], report)


def _draw_images(
    axes: Any, figure: Any, report: Report, one: SliceReport, before: np.ndarray, after: np.ndarray
) -> None:
    low, high = CT_WINDOW_HU if report.unit == "HU" else np.percentile(after[np.isfinite(after)], (0.5, 99.5))
    for place, image, name in zip(axes, (before, after), ("input", "restored"), strict=False):
        place.imshow(image, cmap="gray", vmin=low, vmax=high)
        place.set_title(f"{name}, slice {one.index}")
    difference = after.astype(np.float64) - before
    limit = float(np.percentile(np.abs(difference[np.isfinite(difference)]), 99.5)) or 1.0
    shown = axes[2].imshow(difference, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].set_title(one.removed.reason, fontsize="small", wrap=True)
    figure.colorbar(shown, ax=axes[2], label=f"restored - input {report.unit}".rstrip())
    for row, column, _ in one.removed.places:
        axes[2].plot(column, row, "o", mfc="none", mec="k", ms=12)
    for place in axes:
        place.set_axis_off()


def _draw_curves(axes: Any, report: Report) -> None:
    indices = [one.index for one in report.slices]
    axes[0].plot(indices, [one.noise_before for one in report.slices], label="input")
    axes[0].plot(indices, [one.noise_after for one in report.slices], label="restored")
    axes[0].set(xlabel="slice", ylabel=f"noise {report.unit}".rstrip(), ylim=(0, None))
    axes[0].legend()
    axes[1].plot(indices, [one.removed.highest for one in report.slices])
    axes[1].axhline(DOUBTFUL, ls="--", c="tab:orange")
    axes[1].axhline(CERTAIN, ls="--", c="tab:red")
    axes[1].set(xlabel="slice", ylabel="largest structure in what was removed (z)")
    axes[2].set_axis_off()
    axes[2].text(0, 1, "\n".join(_lines(report)), va="top", family="monospace", fontsize="small")


def _lines(report: Report) -> list[str]:
    values = report.summary()
    lines = [f"{len(report.slices)} slices along {report.axis}; medians:"]
    lines += [f"{name}: {value:.4g}" for name, value in values.items() if isinstance(value, float)]
    lines += [f"{count} slices: {verdict}" for verdict, count in values["verdicts"].items()]
    known = report.provenance
    lines += [f"{key}: {known[key]}" for key in ("task", "weights", "strength", "noise", "software") if known.get(key)]
    return lines
