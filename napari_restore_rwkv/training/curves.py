"""The curves of a training run on disk: a CSV file, and TensorBoard if requested (the extra ``tensorboard``)."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError
from ..storage.durable import write_durably, writing_errors
from .resume import AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CURVE, TENSORBOARD = "curve.csv", "tensorboard"
COLUMNS = ("step", "loss", "learning_rate", "psnr", "ssim", "rmse")


class Curves:
    """Where the figures of a training run are written.

    Parameters
    ----------
    folder
        Where the files are; None writes none.
    tensorboard
        Whether to write TensorBoard files as well.
    step
        Where the training continues: later figures of an interrupted run are discarded.

    Raises
    ------
    DeviceError
        TensorBoard is requested but not installed.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool, step: int) -> None:
        self._folder = folder
        self._board = _board(folder / TENSORBOARD, step) if folder and tensorboard else None

    def step(self, number: int, loss: float, learning_rate: float) -> None:
        """Record a step for TensorBoard."""
        if self._board is not None:
            self._board.add_scalar("training/loss", loss, number)
            self._board.add_scalar("training/learning_rate", learning_rate, number)

    def scored(self, curve: Sequence[Mapping[str, float]]) -> None:
        """Write the whole curve, whose last entry is new."""
        if self._folder is None:
            return
        text = io.StringIO(newline="")
        rows = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
        rows.writeheader()
        rows.writerows(curve)
        with writing_errors(str(self._folder), AGAIN):
            write_durably(self._folder / CURVE, text.getvalue().encode())
        if self._board is not None:
            for name in ("psnr", "ssim", "rmse"):
                self._board.add_scalar(f"validation/{name}", curve[-1][name], int(curve[-1]["step"]))
            self._board.flush()

    def close(self) -> None:
        """Write what remains."""
        if self._board is not None:
            self._board.close()


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DeviceError(
            "tensorboard is not installed: pip install 'napari-restore-rwkv[tensorboard]', or leave it out."
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
