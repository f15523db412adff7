"""The Doctor panel: what works here, what does not, and how to fix it, to read or to copy into a report."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from napari.qt.threading import FunctionWorker
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QPlainTextEdit, QPushButton, QVBoxLayout

from ..isolation import python_command, python_environment
from .docking import DockedPanel
from .form_parts import beside, hint

if TYPE_CHECKING:
    import napari.viewer
    from qtpy.QtWidgets import QWidget

LOOKING = "looking ..."
TIME_LIMIT_S = 600
COPIED = "Copied. It contains versions and the CPU, but nothing about your scans."


class DoctorPanel(DockedPanel):
    """The dock widget "Doctor": the report of ``restore-rwkv doctor``, and a button that copies it."""

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        self.report = QPlainTextEdit()
        self.report.setReadOnly(True)
        self.report.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.report.setStyleSheet("font-family: monospace;")
        self.report.setAccessibleName("What the doctor found")
        self.again = QPushButton("Check again")
        self.copy_button = QPushButton("Copy")
        self.message = hint()
        rows = QVBoxLayout(self)
        rows.addWidget(self.report)
        rows.addLayout(beside(self.again, self.copy_button))
        rows.addWidget(self.message)
        self.again.clicked.connect(self.look)
        self.copy_button.clicked.connect(self.copy)
        self._worker: Any = None
        self.look()

    def look(self) -> None:
        """Check the installation in the background: this imports torch, and runs the kernel."""
        if self._worker is not None:
            return
        self.message.setText(LOOKING)
        self.again.setEnabled(False)
        self._worker = FunctionWorker(_examined)
        self._worker.returned.connect(self._on_found)
        self._worker.errored.connect(self._on_error)
        self._worker.start()

    def copy(self) -> None:
        """Copy the report."""
        QGuiApplication.clipboard().setText(self.report.toPlainText())
        self.message.setText(COPIED)

    def shut_down(self) -> None:
        """Release the viewer, and drop a running check."""
        super().shut_down()
        if self._worker is not None:
            self._worker.returned.disconnect(self._on_found)
            self._worker.errored.disconnect(self._on_error)
            self._worker = None

    def _on_found(self, report: str) -> None:
        self._done()
        self.report.setPlainText(report)
        self.message.setText(report.rpartition("\n")[2])

    def _on_error(self, error: Exception) -> None:
        self._done()
        self.message.setText(f"The doctor stopped with an unexpected {type(error).__name__}: {error}")

    def _done(self) -> None:
        self._worker = None
        self.again.setEnabled(True)


def _examined() -> str:
    """The report, from a separate process: a library that crashes does not take the window with it."""
    done = subprocess.run(
        python_command("napari_restore_rwkv", "doctor"),
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    # It exits with 1 if something that is needed does not work, and says so.
    if done.returncode not in (0, 1) or not done.stdout:
        raise OSError(f"the check ended with {done.returncode}. {done.stderr.strip()}")
    return done.stdout.strip()
