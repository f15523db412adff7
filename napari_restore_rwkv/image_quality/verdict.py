"""What was measured, line by line, with the limits that each must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .methods import DEFAULT, INPUT, JUDGED, TUNED

if TYPE_CHECKING:
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
        Limits of the method that is judged, inclusive; None for none.
    unit
        Of the values; "" for ratios.
    """

    measure: str
    condition: str
    values: dict[str, float]
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def passed(self, name: str) -> bool | None:
        """Whether a method keeps the limits; None where there are none."""
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
    """All that was measured of one method, beside what else one could do.

    Attributes
    ----------
    task
        What the network was judged for.
    weights
        Title of its card.
    judged
        Name of the method that the limits are for: "network", or "classical" where there is none.
    quick
        Whether only the most telling conditions were measured.
    lines, curves
        Measures, and what is drawn of them.
    pictures
        By name of the method, one slice (Y, X), with the window that it is shown in.
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
            cells = "".join(f"{_cell(line.values.get(name), line.unit):>18}" for name in names)
            rows.append(f"{line.measure:<{width}}{cells}  {line.limit:<16}{verdict}".rstrip())
        limited = [line for line in self.lines if line.passed(self.judged) is not None]
        rows += ["", f"{len(limited) - len(self.misses)} of {len(limited)} limits are kept."]
        return "\n".join(rows)


def _cell(value: float | None, unit: str) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f} {unit}".rstrip()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
