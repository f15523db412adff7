"""One page of figures of a qualification, made without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .canvas import page
from .methods import DEFAULT, INPUT, JUDGED, TUNED

if TYPE_CHECKING:
    from pathlib import Path

    from .verdict import Qualification

_COLOURS = {INPUT: "0.5", DEFAULT: "tab:orange", TUNED: "tab:red", JUDGED: "tab:blue"}


def draw_page(found: Qualification, paths: list[Path]) -> None:
    """Draw pictures, curves and lines with limits on a page, and save it under each path (PDF, PNG).

    Raises
    ------
    OutputError
        matplotlib is missing, or a file cannot be written.
    """
    with page(11.7, 8.3, paths) as figure:
        figure.suptitle(f"{found.task}, {found.weights}{' (quick)' if found.quick else ''}")
        halves: Any = figure.subfigures(2, 1)
        upper, lower = halves
        if found.pictures:
            axes = upper.subplots(1, len(found.pictures), squeeze=False)[0]
            for place, (name, picture) in zip(axes, found.pictures.items(), strict=True):
                place.imshow(picture, cmap="gray", vmin=found.window[0], vmax=found.window[1])
                place.set_title(name)
                place.axis("off")
        *graphs, limits = lower.subplots(1, len(found.curves) + 1, squeeze=False)[0]
        for place, curves in zip(graphs, found.curves, strict=True):
            for name, (x, y) in curves.curves.items():
                place.plot(x, y, label=name, color=_COLOURS[name])
            place.set(title=curves.title, xlabel=curves.x, ylabel=curves.y)
            place.title.set_fontsize("small")
            place.legend(fontsize="small")
        _draw_limits(found, limits)


def _draw_limits(found: Qualification, place: Any) -> None:
    """List the lines that miss their limits, as space permits."""
    missed = [
        f"{line.measure}: {line.values[found.judged]:.3g} {line.unit} ({line.limit})\n    {line.condition}"
        for line in found.misses
    ]
    words = missed[:14] + [f"and {len(missed) - 14} more"] * (len(missed) > 14)
    place.axis("off")
    place.set_title("Limits missed", fontsize="small")
    place.text(0, 1, "\n".join(words) or "none", va="top", fontsize=7)
