"""Training a network on folders of scans, from nothing or from weights, in one process or several.

`train` is a generator; the command line and the tests only iterate it.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ScanError
from ..network.checkpoint import for_inference, load_checkpoint
from ..network.model import RestoreRWKV
from ..network.restorer import Card
from .ahead import ReadAhead
from .curves import Curves
from .folders import training_and_validation
from .options import STOP
from .pairs import Crops, Pairs
from .processes import Processes, joined
from .resume import Record, WorkFolder
from .train import Trainer, TrainingOptions, guarded, root_error
from .trained import Trained, described
from .validation import Validation, ValidationScore, mean_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from torch import Tensor

    from .config import Network, TrainConfig
    from .folders import Pair
    from .train import TrainingStep

    Steps = Generator["TrainStep", str | None, Any]

# There are no weights before the first score, so the first is the best.
_NOTHING = ValidationScore(-math.inf, -math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """What is known after a step, or while validation slices are scored.

    Attributes
    ----------
    step, total
        Steps done and steps requested.
    scoring
        How many validation slices are being scored; None after a step.
    loss, learning_rate
        Of this step, the loss over all processes; nan while slices are scored.
    score
        Of the validation slices, if they were scored at this step; else None.
    best_step
        Step of the weights that would be kept now; 0 before the first score.
    seconds_left
        Estimated; None at the beginning.
    reading
        Fraction of the time that steps waited for their crops.
    """

    step: int
    total: int
    scoring: int | None = None
    loss: float = math.nan
    learning_rate: float = math.nan
    score: ValidationScore | None = None
    best_step: int = 0
    seconds_left: float | None = None
    reading: float = 0.0


def train(config: TrainConfig) -> Generator[TrainStep, str | None, Trained]:
    """Train according to a configuration; in a process started by torchrun, together with the others.

    Iterate it for `TrainStep`; ``send(STOP)`` ends the training of a single process with the best weights so far;
    closing it cancels, and saves the state if there is a folder for it. The `Trained` is the value of StopIteration.
    Nothing is written to `config.output`: that is for the caller.

    Raises
    ------
    ScanError
        Folders are missing or contain nothing suitable, or a scan cannot be read.
    CheckpointError
        The initial weights cannot be read, or the folder contains another training.
    DeviceError
        The device does not exist or has too little memory, or another process of this training has ended.
    """
    training, validation = training_and_validation(config)
    with joined(config.device) as (processes, device):
        return (yield from _Run(config, training, validation, processes, device).steps())


class _Run:
    """One training run, from the names of its scans to its outcome."""

    def __init__(
        self,
        config: TrainConfig,
        training: list[Pair],
        validation: list[Pair],
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.config, self.schedule, self.processes, self.device = config, config.schedule, processes, device
        self.training, self.held_out = (
            Pairs(pairs, config.protocol, self.schedule.seed) for pairs in (training, validation)
        )
        self.plain, self.card = new_network(config.network, self.schedule.seed)
        self.record = Record()
        self.stopped = False

    def steps(self) -> Steps:
        options = training_options(self.config)
        folder, first = self.config.folder, self.processes.first
        work = WorkFolder(folder, self._identity(options), writes=first) if folder else None
        if work and first:
            work.begin(((self.schedule.crop, self.schedule.batch),))
        validation = Validation(self.held_out, self.schedule.score_slices, self.config.protocol, self.processes)
        # Problems with the first scans of each source are reported before the training begins.
        for number in self._first_of_each():
            self.training.opened(number)
        crops = ReadAhead(Crops(self.training, self.config, self.processes), self.schedule.readers)
        loss = root_error if self.schedule.loss == "root" else None
        trainer = Trainer(self.plain.to(self.device).train(), crops, options, loss, self.processes)
        with closing(crops):
            if work:
                self.record = work.resume(trainer)
            board = self.config.tensorboard and self.processes.first
            with closing(Curves(self._own_folder(), tensorboard=board, step=trainer.step)) as curves:
                yield from self._train(trainer, crops, validation, work, curves)
        return self._trained(trainer, validation)

    def _train(
        self, trainer: Trainer, crops: ReadAhead, validation: Validation, work: WorkFolder | None, curves: Curves
    ) -> Steps:
        first, begun, saved = trainer.step, time.monotonic(), trainer.step
        remedy = "lower batch or crop, and raise accumulate instead"
        for step in guarded(trainer, self.device, remedy):
            self.record.losses.append(step.loss)
            if not math.isfinite(step.loss):
                raise ScanError(
                    f"The loss of step {step.step} is NaN or infinite; lower learning_rate, and check the scans for "
                    "NaN or infinite values."
                )
            curves.step(step.step, step.loss, step.learning_rate)
            score = None
            if step.step % self.schedule.score_every == 0 or step.step == self.schedule.steps or self.stopped:
                score = yield from self._score(trainer, validation, step)
                curves.scored(self.record.curve)
            if work and (score or step.step % self.schedule.save_every == 0):
                self._save(work, trainer)
                saved = step.step
            passed = time.monotonic() - begun
            try:
                yield from self._tell(
                    TrainStep(
                        step=step.step,
                        total=self.schedule.steps,
                        loss=step.loss,
                        learning_rate=step.learning_rate,
                        score=score,
                        best_step=self.record.best_step,
                        seconds_left=passed / (step.step - first) * (self.schedule.steps - step.step),
                        reading=crops.waited / max(passed, 1e-9),
                    )
                )
            except (GeneratorExit, KeyboardInterrupt):
                # Several processes stop at different steps; the last common one is already saved.
                if work and self.processes.size == 1 and saved < step.step:
                    self._save(work, trainer)
                raise
            if self.stopped and score:
                return

    def _score(self, trainer: Trainer, validation: Validation, step: TrainingStep) -> Steps:
        state = trainer.averaged()
        rows = yield from self._rows(validation, state, step.step)
        score = mean_of(rows)
        more = {"rmse": score.rmse, "learning_rate": step.learning_rate}
        self.record.add(trainer.step, score, _NOTHING, state, more)
        return score

    def _rows(self, validation: Validation, state: Mapping[str, Tensor], step: int) -> Steps:
        rows: list[dict[str, Any]] = []
        for row in validation.scores(self._fused(state)):
            if row is not None:
                rows.append(row)
                continue
            scoring = len(validation.places)
            yield from self._tell(TrainStep(step, self.schedule.steps, scoring, best_step=self.record.best_step))
        return rows

    def _tell(self, step: TrainStep) -> Steps:
        # Several processes end together or not at all.
        if (yield step) == STOP and self.processes.size == 1:
            self.stopped = True

    def _trained(self, trainer: Trainer, validation: Validation) -> Trained:
        """The best weights, scored once more for the rows of their card."""
        state = self.record.best_state or trainer.averaged()
        rows = [row for row in validation.scores(self._fused(state)) if row is not None]
        card = described(
            self.config,
            self.training,
            self.held_out,
            record=self.record,
            rows=rows,
            start=self.card,
            processes=self.processes.size,
        )
        return Trained(card, state, mean_of(rows), tuple(self.record.curve), self.plain)

    def _fused(self, weights: Mapping[str, Tensor]) -> RestoreRWKV:
        return for_inference(self.plain, self.card or Card("in training"), weights).to(self.device)

    def _save(self, work: WorkFolder, trainer: Trainer) -> None:
        if self.processes.first:
            work.save(trainer, self.record)

    def _own_folder(self) -> Any:
        return self.config.folder if self.processes.first else None

    def _first_of_each(self) -> Iterator[int]:
        seen = set()
        for number, pair in enumerate(self.training.pairs):
            kind = (pair.target.parent, pair.degraded and pair.degraded.parent)
            if kind not in seen:
                seen.add(kind)
                yield number

    def _identity(self, options: TrainingOptions) -> dict[str, Any]:
        """What identifies a training run, as plain values; the number of processes may change."""
        schedule = self.schedule
        return {
            "network": asdict(self.config.network) | {"digest": self.card.weights_sha256 if self.card else ""},
            "options": asdict(options),
            "crops": [schedule.crop, schedule.flips, schedule.rotations, schedule.loss],
            "crops a step": schedule.batch * schedule.accumulate * self.processes.size,
            "protocol": self.config.protocol,
            "validation": [schedule.score_every, schedule.score_slices],
            "scans": [
                [pair.target.name, pair.degraded is not None, pair.task, pair.strength, pair.odds]
                for pairs in (self.training, self.held_out)
                for pair in pairs.pairs
            ],
        }


def new_network(network: Network, seed: int) -> tuple[RestoreRWKV, Card | None]:
    """Create the initial network of a training run, and the card of its weights if there are any."""
    if network.weights is not None:
        plain = load_checkpoint(network.weights, fused=False)
        return plain, plain.card
    torch.manual_seed(seed)
    if network.channels is not None:
        assert network.blocks is not None
        assert network.refinement is not None
        return RestoreRWKV(network.channels, network.blocks, network.refinement), None
    return (RestoreRWKV.full() if network.size == "full" else RestoreRWKV.light()), None


def training_options(config: TrainConfig) -> TrainingOptions:
    """The trainer's part of a schedule."""
    known = asdict(config.schedule)
    return TrainingOptions(**{name: known[name] for name in TrainingOptions.__dataclass_fields__})
