"""Small Qt widgets shared by the panels."""

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
    """A label as high as its text needs: a form layout may leave it at the height of its previous text."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def setText(self, text: str | None) -> None:
        """Show another text."""
        super().setText(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Adapt to another width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # The required height includes the old minimum.
        self.setMinimumHeight(0)
        # Without text no height is needed, which is reported as -1.
        self.setMinimumHeight(max(self.heightForWidth(self.width()), 0))


def plain_label(text: str = "") -> QLabel:
    """Return a label that shows text as it is: names come from other people's files, and Qt obeys HTML in them."""
    label = QLabel(text)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def rich_label() -> QLabel:
    """Return a label that shows HTML, in which whatever comes from elsewhere has to be escaped."""
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.RichText)
    return label


def hint() -> QLabel:
    """Return a line of explanation."""
    return WrappedLine()


def warning_colour() -> str:
    """Return the style of warnings in the current theme."""
    return f"color: {get_theme(get_settings().appearance.theme).warning.as_hex()};"


def scrolled(inside: QWidget) -> QScrollArea:
    """Return an area that shows a column of widgets at its own width, and scrolls vertically."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inside)
    return area


def plain_tip(text: str) -> str:
    """Return untrusted text as a tooltip that shows it literally, in lines of readable length."""
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
    """Let a hidden widget keep its space, so that the layout does not shift when it appears."""
    policy = widget.sizePolicy()
    policy.setRetainSizeWhenHidden(True)
    widget.setSizePolicy(policy)


def dividing_line() -> QFrame:
    """Return a thin horizontal line that shows on dark and light themes."""
    line = QFrame()
    line.setFixedHeight(1)
    line.setStyleSheet("background: rgba(128, 128, 128, 120);")
    return line
