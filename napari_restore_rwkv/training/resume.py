"""The state of a training run on disk, from which a killed run continues to the same result.

    settings.json   what identifies a run, and the crops that were chosen for the memory of the first
    record.pt       curve, losses, and the best weights so far
    state.pt        the trainer: weights, optimiser, average, step

The record is written before the state, so after a kill between the two it is ahead of the state: what it says about
steps that will be repeated is dropped, or turns out the same again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import weakref
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ..errors import CheckpointError, OutputError
from ..storage.durable import PARTIAL, write_durably, writing_errors
from ..storage.file_lock import try_lock
from ..untrusted import json_object, read_regular
from .state_file import write_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from .acceptance import Score
    from .train import Trainer
    from .validation import ValidationScore

SECONDS_BETWEEN_SAVES = 20.0
AGAIN = "run the same training again"
# What torch raises for files with other content, and for states of other networks.
_DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError)
_SETTINGS, _RECORD, _STATE, _LOCK = "settings.json", "record.pt", "state.pt", "lock"


@dataclass(slots=True)
class Record:
    """The history of a training run.

    Attributes
    ----------
    losses
        Of each step.
    curve
        For each score of held-out slices: step, psnr, ssim, and the mean loss since the last one.
    best_step, best_psnr, best_state
        The trainer's averaged weights with the best score; step 0 and None for the old weights.
    trouble
        Why the training ended early; "" if it did not.
    """

    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_psnr: float = float("-inf")
    best_state: dict[str, Tensor] | None = None
    trouble: str = ""

    def add(
        self,
        step: int,
        score: Score | ValidationScore,
        start: Score | ValidationScore,
        state: dict[str, Tensor],
        more: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Record a score, with more figures for the curve.

        The state becomes the best if PSNR is higher than ever, and SSIM no worse than at the start.
        """
        since = int(self.curve[-1]["step"]) if self.curve else 0
        recent = self.losses[since:step]
        loss = sum(recent) / max(1, len(recent))
        self.curve.append({"step": step, "psnr": score.psnr, "ssim": score.ssim, "loss": loss, **more})
        if score.psnr > max(self.best_psnr, start.psnr) and not score.ssim < start.ssim:
            self.best_step, self.best_psnr, self.best_state = step, score.psnr, state


class WorkFolder:
    """A folder for the state of one training.

    Parameters
    ----------
    folder
        Created if missing.
    identity
        What makes two runs the same, as plain values.
    writes
        Whether this process saves the state; of those that train together only one does.

    Raises
    ------
    CheckpointError
        If the folder contains the state of another training run.
    OutputError
        If it cannot be written to, or another training uses it.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], writes: bool = True) -> None:
        self.folder = folder
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.crops: tuple[tuple[int, int], ...] = ()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if writes:
                self._take()
            settings = json_object(read_regular(folder / _SETTINGS))
            known = dict(settings["identity"])
            crops = tuple((int(side), int(count)) for side, count in settings["crops"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"The state in {folder} is damaged; give another folder.") from error
        except OSError as error:
            raise OutputError(f"{folder} cannot be used: {error.strerror or error}; give another folder.") from error
        if different := sorted(key for key in self.identity if self.identity[key] != known.get(key)):
            raise CheckpointError(
                f"{folder} contains another training, which differs in {', '.join(different)}; give another folder, or "
                "repeat that one."
            )
        self.crops = crops

    def _take(self) -> None:
        """Be the only process that writes here until this object is gone; remove what a killed one left."""
        number = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        weakref.finalize(self, os.close, number)
        free = True
        # A file system without locks is no hindrance.
        with contextlib.suppress(OSError):
            free = try_lock(number)
        if not free:
            raise OutputError(
                f"{self.folder} is in use by another training: wait until it has ended, or give another folder."
            )
        for left in self.folder.glob(f"*{PARTIAL}"):
            left.unlink(missing_ok=True)

    def begin(self, crops: tuple[tuple[int, int], ...]) -> None:
        """Record what was chosen for this run."""
        self.crops = crops
        settings = json.dumps({"identity": self.identity, "crops": crops}, indent=2) + "\n"
        with writing_errors(str(self.folder), AGAIN):
            write_durably(self.folder / _SETTINGS, settings.encode())

    def save(self, trainer: Trainer, record: Record) -> None:
        """Write the state, atomically; OutputError if that fails, which leaves the last one."""
        stored = {name: getattr(record, name) for name in ("losses", "curve", "best_step", "best_psnr", "best_state")}
        with writing_errors(str(self.folder), AGAIN):
            write_state(self.folder / _RECORD, stored)
            trainer.save(self.folder / _STATE)

    def resume(self, trainer: Trainer) -> Record:
        """Load the saved state, if there is one, into a new trainer, and return its record."""
        if not (self.folder / _STATE).is_file():
            return Record()
        try:
            trainer.resume(self.folder / _STATE)
            record = Record(**torch.load(self.folder / _RECORD, map_location="cpu", weights_only=True))
        except _DAMAGED as error:
            raise CheckpointError(f"The state in {self.folder} is damaged; give another folder.") from error
        record.losses = record.losses[: trainer.step]
        record.curve = [entry for entry in record.curve if entry["step"] <= trainer.step]
        if record.best_step > trainer.step:
            # These weights were the best so far, so they will be found again.
            record.best_step, record.best_psnr, record.best_state = 0, float("-inf"), None
        return record
