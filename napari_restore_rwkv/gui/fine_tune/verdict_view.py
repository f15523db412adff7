"""The outcome of a fine-tuning run: the verdict, the held-out slices before and after, a picture, and buttons."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ..form_parts import hint, plain_label, rich_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QResizeEvent

ESTIMATE = (
    "Estimated from neighbouring slices, because there is no reference: gains in dB are overestimated where the "
    "slices share noise."
)
SAVED = "Saved, and listed as not accepted."
LISTED = "The new weights are listed under the models, here and in the Restore panel. The old ones stay."
LAST_COLUMN = {"paired": "reference", "reference": "reference", "noisy": "mean of neighbours"}


class VerdictView(QWidget):
    """The outcome of a fine-tuning run.

    Signals
    -------
    wanted()
        The user wants to use the new weights in the Restore panel.
    wanted_anyway()
        The user wants to keep them although they were not accepted.
    """

    wanted = Signal()
    wanted_anyway = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.verdict, self.note, self.estimate, self.table = hint(), hint(), hint(), rich_label()
        self.verdict.setTextFormat(Qt.TextFormat.RichText)
        self.picture = Picture()
        self.captions = QWidget()
        self._caption_row = QHBoxLayout(self.captions)
        self._caption_row.setContentsMargins(0, 0, 0, 0)
        self._captions = [plain_label() for _ in range(4)]
        for caption in self._captions:
            caption.setAlignment(Qt.AlignmentFlag.AlignCenter)
            caption.setWordWrap(True)
            self._caption_row.addWidget(caption, 1)
        self.use = QPushButton("Use them in the Restore panel")
        self.keep_anyway = QPushButton("Save the new ones anyway")
        self.keep_anyway.setToolTip("They are listed as not accepted; the old weights stay as they are")
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        shown = (self.verdict, self.table, self.estimate, self.picture, self.captions, self.note)
        for widget in (*shown, self.use, self.keep_anyway):
            rows.addWidget(widget)
        self.use.clicked.connect(self.wanted)
        self.keep_anyway.clicked.connect(self.wanted_anyway)

    def show_outcome(self, record: dict[str, Any], mode: str) -> None:
        """Show the last record of a training process, of kind "done"."""
        rows = record["rows"]
        estimated = mode == "noisy" and bool(rows)
        self.verdict.setText(f"<b>{'Estimate. ' if estimated else ''}{html.escape(record['reason'], quote=False)}</b>")
        self.table.setText(table_of(rows, estimated=estimated))
        self.table.setVisible(bool(rows))
        self.estimate.setText(ESTIMATE)
        self.estimate.setVisible(estimated)
        self.picture.show_file(record["picture"])
        self.captions.setVisible(record["picture"] is not None)
        texts = ("as scanned" if mode != "reference" else "simulated", "old weights", "new weights", LAST_COLUMN[mode])
        for caption, text in zip(self._captions, texts, strict=True):
            caption.setText(text)

    def show_choices(self, *, accepted: bool, saved: bool, saving: bool, possible: bool) -> None:
        """Show what can be done with the new weights: use them, or save them although they were not accepted.

        Parameters
        ----------
        accepted, saved
            Whether they were accepted, or saved anyway.
        saving, possible
            Whether they are being saved, and whether there are any.
        """
        self.note.setText(LISTED if accepted else SAVED)
        for widget in (self.note, self.use):
            widget.setVisible(accepted or saved)
        self.keep_anyway.setVisible(possible and not (accepted or saved))
        self.keep_anyway.setEnabled(not saving)


class Picture(QLabel):
    """A picture as wide as the panel."""

    def __init__(self) -> None:
        super().__init__()
        self._pixmap = QPixmap()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def show_file(self, file: str | None) -> None:
        """Show a file; None shows nothing."""
        self._pixmap = QPixmap(file) if file else QPixmap()
        self.setVisible(not self._pixmap.isNull())
        self._fit()

    def sizeHint(self) -> QSize:
        """Prefer the height of the picture at this width."""
        if self._pixmap.isNull():
            return QSize(0, 0)
        return QSize(0, round(self.width() * self._pixmap.height() / self._pixmap.width()))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the picture to the panel."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._pixmap.isNull() or self.width() < 1:
            return
        smooth = Qt.TransformationMode.SmoothTransformation
        self.setPixmap(self._pixmap.scaledToWidth(self.width(), smooth))
        self.setFixedHeight(self.sizeHint().height())


def table_of(rows: Sequence[dict[str, Any]], *, estimated: bool) -> str:
    """Return an HTML table of the held-out slices before and after, their means last."""
    psnr = "PSNR (dB), estimated" if estimated else "PSNR (dB)"
    lines = [_line(str(row["slice"]), *_figures(row)) for row in rows]
    means = {name: _mean([row[name] for row in rows]) for name in _NAMES}
    lines.append(_line("<b>mean</b>", *(f"<b>{figure}</b>" for figure in _figures(means))))
    head = f"<tr><td>slice</td><td colspan=2 align=center>{psnr}</td><td colspan=2 align=center>SSIM</td></tr>"
    lines = [head, _line("", "before", "after", "before", "after"), *lines]
    return f"<table cellspacing=0 cellpadding=3>{''.join(lines)}</table>"


_NAMES = ("psnr_before", "psnr_after", "ssim_before", "ssim_after")


def _figures(values: dict[str, Any]) -> list[str]:
    decimals = (2, 2, 4, 4)
    return [
        "-" if values[name] is None else f"{values[name]:.{places}f}"
        for name, places in zip(_NAMES, decimals, strict=True)
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _line(first: str, *others: str) -> str:
    return f"<tr><td>{first}</td>{''.join(f'<td align=right>{text}</td>' for text in others)}</tr>"
