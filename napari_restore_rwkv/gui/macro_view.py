"""The lines that repeat what the panel did: shown on request, and copied with a click."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from .form_parts import beside

COPY_PYTHON, COPY_COMMAND, SHOW = "Copy as Python", "Copy as command", "Show lines"
LINES_SHOWN = 6


class MacroView(QWidget):
    """Two buttons that copy the last line, and a third one that shows all lines of this panel.

    Signals
    -------
    said(text)
        Something was copied.
    """

    said = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.lines: list[str] = []
        self._command = ""
        self.python, self.command, self.show_all = (
            QPushButton(COPY_PYTHON),
            QPushButton(COPY_COMMAND),
            QPushButton(SHOW),
        )
        self.python.setToolTip("Copy lines that repeat this in napari's console")
        self.show_all.setToolTip("Show the lines for everything that was done in this panel")
        self.show_all.setCheckable(True)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setFixedHeight(self.fontMetrics().lineSpacing() * (LINES_SHOWN + 2))
        self.text.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.text.hide()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addLayout(beside(self.python, self.command, self.show_all))
        rows.addWidget(self.text)
        self.python.clicked.connect(self._copy_python)
        self.command.clicked.connect(self._copy_command)
        self.show_all.toggled.connect(self.text.setVisible)
        self._offer()

    def add(self, lines: str, command: str = "") -> None:
        """Record what was done: its lines of Python, and its command if there is one."""
        self.lines.append(lines)
        self._update(command)

    def correct(self, before: str, lines: str, command: str = "") -> None:
        """Replace the last lines if they are `before`, else add these: the last result was changed."""
        if self.lines and self.lines[-1] == before:
            self.lines[-1] = lines
        else:
            self.lines.append(lines)
        self._update(command)

    def _update(self, command: str) -> None:
        self._command = command
        self.text.setPlainText("\n\n".join(self.lines))
        self._offer()

    def _offer(self) -> None:
        self.setVisible(bool(self.lines))
        self.command.setEnabled(bool(self._command))
        self.command.setToolTip(
            "Copy the command that does the same in a terminal"
            if self._command
            else "Only whole volumes from a known file have a command"
        )

    def _copy_python(self) -> None:
        self._copy(self.lines[-1], "Copied: paste it into napari's console.")

    def _copy_command(self) -> None:
        self._copy(self._command, "Copied: paste it into a terminal.")

    def _copy(self, text: str, words: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self.said.emit(words)
