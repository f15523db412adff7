"""Small Qt pieces that the panels are made of."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QToolButton, QWidget

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

NARROW_COMBO = 10


def choice(tip: str) -> QComboBox:
    """Return a drop-down list that does not widen the panel for a long layer name."""
    combo = QComboBox()
    combo.setToolTip(tip)
    narrow(combo)
    return combo


def narrow(combo: QComboBox) -> None:
    """Keep a drop-down list from widening the panel for a long layer name."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(NARROW_COMBO)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


class WrappedLine(QLabel):
    """A label as high as its words need: a form layout may leave it the height of the words that it had before."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        # Names and cards come from files of others.
        self.setTextFormat(Qt.TextFormat.PlainText)

    def setText(self, text: str | None) -> None:
        """Show other words."""
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fit to another width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # What is needed counts the old minimum in.
        self.setMinimumHeight(0)
        # Without words nothing is needed, for which -1 stands.
        self.setMinimumHeight(max(self.heightForWidth(self.width()), 0))


def hint() -> QLabel:
    """Return a line that answers a question before it is asked."""
    return WrappedLine()


def warning_colour() -> str:
    """Return the style of words that warn, in the theme of the moment."""
    return f"color: {get_theme(get_settings().appearance.theme).warning.as_hex()};"


def scrolled(inside: QWidget) -> QScrollArea:
    """Return an area that shows a column of widgets as wide as itself, and scrolls it up and down."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inside)
    return area


def plain_tip(text: str) -> str:
    """Return words of others as a tooltip that shows them as they are, in lines of a readable length."""
    return f"<qt>{html.escape(text)}</qt>" if text else ""


def small_button(text: str, tip: str) -> QToolButton:
    """Return a button for a single sign."""
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    return button


def beside(*widgets: QWidget, stretch: tuple[int, ...] = ()) -> QHBoxLayout:
    """Return a row of widgets without a margin; `stretch` says how they share the width."""
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    for place, widget in enumerate(widgets):
        row.addWidget(widget, stretch[place] if stretch else 0)
    return row


def keep_room(widget: QWidget) -> None:
    """Let a widget take its room while it is hidden, so that nothing jumps when it appears."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)


def dividing_line() -> QFrame:
    """Return a thin horizontal line that shows on dark and light themes."""
    line = QFrame()
    line.setFixedHeight(1)
    line.setStyleSheet("background: rgba(128, 128, 128, 120);")
    return line
