"""A small plot painted with Qt alone, without a plotting library."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

LEFT, RIGHT, TOP, BOTTOM = 44, 8, 20, 18
HEIGHT = 120
TICKS_WANTED, SPARSER = 3, 1.3
MOST_POINTS = 400
LINE, START = QColor(90, 170, 255), QColor(255, 160, 60)


@dataclass(slots=True)
class Curve:
    """Values over steps."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class Plot(QWidget):
    """One curve over the steps of a training, with a dashed line at its initial value.

    Parameters
    ----------
    title
        The name of the curve, with its unit.
    start_title
        The name of the dashed line.
    points
        Draw each value as a dot, if there are few of them.
    """

    def __init__(self, title: str, *, start_title: str = "", points: bool = False) -> None:
        super().__init__()
        self._title, self._start_title, self._points = title, start_title, points
        self.curve = Curve()
        self.start: float | None = None
        self.total = 1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Prefer all the width there is."""
        return QSize(260, HEIGHT)

    def clear(self, total: int) -> None:
        """Start again, with `total` steps along the axis."""
        self.curve, self.start, self.total = Curve(), None, max(1, total)
        self.update()

    def add(self, step: int, value: float | None) -> None:
        """Add a value without drawing it, which `update` does; values that are not finite are left out."""
        if value is not None and math.isfinite(value):
            self.curve.steps.append(step)
            self.curve.values.append(value)

    def paintEvent(self, event: object) -> None:
        """Draw axes, curve, dashed line and legend."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = QColor(get_theme(get_settings().appearance.theme).text.as_hex())
        font = painter.font()
        font.setPointSizeF(8)
        painter.setFont(font)
        box = QRectF(LEFT, TOP, self.width() - LEFT - RIGHT, self.height() - TOP - BOTTOM)
        low, high, ticks = axis_of([*self.curve.values, *([self.start] if self.start is not None else [])])
        self._draw_axes(painter, box, ink, low, high, ticks)
        self._draw_legend(painter, ink)
        painter.setClipRect(box.adjusted(-3, -3, 3, 3))
        if self.start is not None:
            painter.setPen(QPen(START, 1.2, Qt.PenStyle.DashLine))
            y = _at(self.start, low, high, box.bottom(), box.top())
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
        self._draw_curve(painter, box, low, high)
        painter.end()

    def _draw_axes(
        self, painter: QPainter, box: QRectF, ink: QColor, low: float, high: float, ticks: list[float]
    ) -> None:
        faint = QColor(ink)
        faint.setAlpha(50)
        decimals = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)) if len(ticks) > 1 else 1
        for tick in ticks:
            y = _at(tick, low, high, box.bottom(), box.top())
            painter.setPen(faint)
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            painter.setPen(ink)
            right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, y - 8, LEFT - 5, 16), right, f"{tick:.{decimals}f}")
        below = QRectF(box.left(), box.bottom() + 2, box.width(), BOTTOM - 2)
        for text, where in (("0", Qt.AlignmentFlag.AlignLeft), (f"step {self.total}", Qt.AlignmentFlag.AlignRight)):
            painter.drawText(below, where, text)

    def _draw_legend(self, painter: QPainter, ink: QColor) -> None:
        x = 4.0
        legend = [(self._title, LINE, Qt.PenStyle.SolidLine)]
        if self.start is not None and self._start_title:
            legend.append((f"{self._start_title} {self.start:.2f}", START, Qt.PenStyle.DashLine))
        for text, colour, style in legend:
            painter.setPen(QPen(colour, 1.6, style))
            painter.drawLine(QPointF(x, 9), QPointF(x + 16, 9))
            painter.setPen(ink)
            painter.drawText(QPointF(x + 20, 13), text)
            x += 32 + painter.fontMetrics().horizontalAdvance(text)

    def _draw_curve(self, painter: QPainter, box: QRectF, low: float, high: float) -> None:
        steps, values = self.curve.steps, self.curve.values
        every = max(1, -(-len(steps) // MOST_POINTS))
        if every > 1:
            # Means of neighbours: too many losses would look like a band of noise.
            values = [
                math.fsum(values[i : i + every]) / len(values[i : i + every]) for i in range(0, len(values), every)
            ]
            steps = steps[::every]
        points = [
            QPointF(_at(step, 0, self.total, box.left(), box.right()), _at(value, low, high, box.bottom(), box.top()))
            for step, value in zip(steps, values, strict=True)
        ]
        painter.setPen(QPen(LINE, 1.6))
        painter.drawPolyline(QPolygonF(points))
        if self._points:
            painter.setBrush(LINE)
            for point in points:
                painter.drawEllipse(point, 2.5, 2.5)


def axis_of(values: list[float]) -> tuple[float, float, list[float]]:
    """Return the ends of an axis for all values, and round numbers for its ticks."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.08 * (high - low) or max(abs(high) * 0.01, 1e-3)
    low, high = low - room, high + room
    rough = (high - low) / TICKS_WANTED
    unit = 10 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (10, 5, 2, 1) if factor * unit <= SPARSER * rough)
    first = math.ceil(low / step)
    return low, high, [n * step for n in range(first, math.floor(high / step) + 1)]


def _at(value: float, low: float, high: float, first: float, last: float) -> float:
    return first + (value - low) / (high - low) * (last - first)
