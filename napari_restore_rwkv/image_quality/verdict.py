"""What was measured, line by line, with the limits for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from .methods import DEFAULT, INPUT, JUDGED, TUNED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_ORDER = (INPUT, DEFAULT, TUNED, JUDGED)


@dataclass(frozen=True, slots=True)
class Line:
    """One measure under one condition.

    Attributes
    ----------
    measure, condition
        Such as "contrast kept, 5 HU, 11 px" and "22 HU, standard kernel".
    values
        By name of the method.
    least, most
        Limits for the method being judged, inclusive; None for none.
    unit
        Of the values; "" for ratios.
    spread
        By name of the method, the standard deviation of the values of several seeds; empty for one.
    """

    measure: str
    condition: str
    values: dict[str, float]
    least: float | None = None
    most: float | None = None
    unit: str = ""
    spread: dict[str, float] = field(default_factory=dict)

    def passed(self, name: str) -> bool | None:
        """Whether a method keeps the limits; None if there are none."""
        if self.least is None and self.most is None:
            return None
        value = self.values[name]
        low = -math.inf if self.least is None else self.least
        high = math.inf if self.most is None else self.most
        return bool(low <= value <= high)

    @property
    def limit(self) -> str:
        """The limits in words; "" for none."""
        if self.least is not None and self.most is not None:
            return f"{self.least:.3g} to {self.most:.3g}"
        if self.least is not None:
            return f"at least {self.least:.3g}"
        return "" if self.most is None else f"at most {self.most:.3g}"


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves for a figure: by name of the method (x, y)."""

    title: str
    x: str
    y: str
    curves: dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Qualification:
    """All measurements of one method, beside the alternatives.

    Attributes
    ----------
    task
        What the network was judged for.
    weights
        Title of its card.
    judged
        Name of the method that the limits are for: "network", or "classical" if there is none.
    quick
        Whether only the most informative conditions were measured.
    lines, curves
        Measures, and their curves.
    pictures
        By name of the method, one slice (Y, X), with the window to show it in.
    """

    task: str
    weights: str
    judged: str
    quick: bool
    lines: tuple[Line, ...]
    curves: tuple[Curves, ...] = ()
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    window: tuple[float, float] = (0.0, 1.0)

    @property
    def misses(self) -> tuple[Line, ...]:
        """Lines whose limits are not kept."""
        return tuple(line for line in self.lines if line.passed(self.judged) is False)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values: the table that a card carries."""
        return {
            "task": self.task,
            "weights": self.weights,
            "judged": self.judged,
            "quick": self.quick,
            "lines": [
                {
                    "measure": line.measure,
                    "condition": line.condition,
                    "values": {name: _number(value) for name, value in line.values.items()},
                    **({"spread": {n: _number(v) for n, v in line.spread.items()}} if line.spread else {}),
                    "unit": line.unit,
                    "limit": line.limit,
                    "passed": line.passed(self.judged),
                }
                for line in self.lines
            ],
        }

    def table(self) -> str:
        """Return the lines as text, condition by condition."""
        names = [name for name in _ORDER if any(name in line.values for line in self.lines)]
        width = max(len(line.measure) for line in self.lines) + 2
        rows = [f"{self.task}, {self.weights}{', quick' if self.quick else ''}; judged: {self.judged}"]
        condition = None
        for line in self.lines:
            if line.condition != condition:
                condition = line.condition
                rows += ["", f"{condition:<{width}}" + "".join(f"{name:>18}" for name in names) + "  limit"]
            verdict = {True: "pass", False: "MISS", None: ""}[line.passed(self.judged)]
            cells = "".join(f"{_cell(line, name):>18}" for name in names)
            rows.append(f"{line.measure:<{width}}{cells}  {line.limit:<16}{verdict}".rstrip())
        limited = [line for line in self.lines if line.passed(self.judged) is not None]
        rows += ["", f"{len(limited) - len(self.misses)} of {len(limited)} limits are kept."]
        return "\n".join(rows)


def mean_of(found: Sequence[Qualification]) -> Qualification:
    """Combine qualifications with different seeds into one: means of values and limits, and the spread of values.

    Curves and pictures are those of the first.
    """
    if len(found) == 1:
        return found[0]
    lines = tuple(_mean_line(same) for same in zip(*(one.lines for one in found), strict=True))
    return replace(found[0], lines=lines)


def _mean_line(same: Sequence[Line]) -> Line:
    def mean(limits: list[float | None]) -> float | None:
        known = [limit for limit in limits if limit is not None]
        return fmean(known) if known else None

    by_name = {name: [line.values[name] for line in same] for name in same[0].values}
    return replace(
        same[0],
        values={name: fmean(values) for name, values in by_name.items()},
        least=mean([line.least for line in same]),
        most=mean([line.most for line in same]),
        spread={name: stdev(values) for name, values in by_name.items()},
    )


def _cell(line: Line, name: str) -> str:
    value = line.values.get(name, math.nan)
    if math.isnan(value):
        return "-"
    spread = f" ± {line.spread[name]:.2g}" if name in line.spread else ""
    return f"{value:.3f}{spread} {line.unit}".rstrip()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
