"""Fine-tuning on local data, and the decision whether the result is better than the old weights.

`fine_tune` is a generator; the viewer's process, the command line and the tests only iterate it.
"""

from __future__ import annotations

import math
import time
from copy import deepcopy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import choose_device
from ..errors import ScanError
from ..network.bundles import merged
from ..network.checkpoint import for_inference, load_checkpoint
from ..restoration.data_consistency import keeps_measured
from ..scans.slice_axis import evenly_spaced
from ..simulate.whole_scan import STRENGTHS
from ..tasks import TASKS
from .acceptance import Row, Score, Verdict, judge, kept, mean_score, picture, restored, score_one, window_of
from .adapters import adapters_in, add_adapters, without_adapters
from .crop_sampler import CropSampler, loss_of
from .crops import CROPS
from .material import check_material
from .memory import available_memory, crops_that_fit
from .options import STOP, FineTuneOptions, FineTuneStep, Preview, Scoring, Weights
from .outcome import FineTuned, describe, fingerprints
from .resume import SECONDS_BETWEEN_SAVES, Record, WorkFolder
from .slices import Slices
from .train import Trainer, TrainingOptions, guarded, one_batch

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ..network.model import RestoreRWKV
    from ..network.restorer import Card
    from .crop_sampler import HeldOut
    from .material import Checked, Material

    # What a generator in this file yields, is sent, and returns.
    Steps = Generator[FineTuneStep, int | str | None, Any]

# Above this many parameters, adapters are trained rather than all weights.
LARGEST_FOR_ALL_WEIGHTS = 5_000_000
DEFAULT_RANK = 8
LIGHT_RATE, ADAPTER_RATE, FULL_RATE = 2e-4, 2e-4, 3e-5
# Number of held-out slices for the verdict, and of those scored along the way.
SCORED_SLICES, WATCHED_SLICES = 8, 3
_SCORES, _FEWEST_STEPS_BETWEEN = 10, 20


def fine_tune(
    weights: str | Path,
    material: Material | Sequence[Material],
    options: FineTuneOptions | None = None,
    *,
    folder: Path | None = None,
) -> Generator[FineTuneStep, int | str | None, FineTuned]:
    """Fine-tune weights on local scans.

    Iterate it for `FineTuneStep`; ``send(i)`` asks for a preview of slice i, which the next record contains;
    ``send(STOP)`` ends the training with the best weights so far; closing it cancels. The `FineTuned` is the value of
    StopIteration.

    Parameters
    ----------
    weights
        What `load_checkpoint` takes: a task with shipped weights, a weights file, a bundle.
    material
        One scan or several, all with a reference or all without; see `Material`.
    options
        See `FineTuneOptions`.
    folder
        Where to keep the state, so that the same call continues after an interruption, with the same result as without
        one on the same machine; None keeps nothing.

    Yields
    ------
    FineTuneStep
        After each step, and after each scored slice.

    Raises
    ------
    ScanError
        If the scans and labels do not match, or a pair is shifted by more than a pixel and not forced.
    CheckpointError
        If the weights cannot be read or are for another modality, or the folder contains another training.
    DeviceError
        If the device does not exist or has too little memory.
    """
    options = options or FineTuneOptions()
    plain = load_checkpoint(weights, fused=False).eval()
    card = replace(plain.card, task=plain.card.task or options.task)
    card = replace(card, modality=card.modality or (TASKS[card.task].modality if card.task else None))
    checked = check_material(material, card.modality, axis=options.axis, force=options.force)
    _check_task(card.task, checked)
    return (yield from _Run(plain, card, checked, options, folder).steps())


class _Run:
    """One fine-tuning, from checked material to its outcome."""

    def __init__(
        self, plain: RestoreRWKV, card: Card, checked: Checked, options: FineTuneOptions, folder: Path | None
    ) -> None:
        self.plain, self.card, self.checked, self.options, self.folder = plain, card, checked, options, folder
        self.device = choose_device(options.device)
        self.rank = _rank(plain, options)
        self.window = window_of(checked.material[0].scan.modality)
        self.old = {name: value.clone() for name, value in plain.state_dict().items()}
        self.record = Record()
        self.start: Score | None = None
        self.examples: CropSampler | None = None
        self.trainer: Trainer | None = None
        self.wanted: int | None = None
        self.stopped = False

    def steps(self) -> Generator[FineTuneStep, int | str | None, FineTuned]:
        if self.checked.useless:
            return self._unchanged_outcome(self.checked.useless)
        work = WorkFolder(self.folder, self._identity()) if self.folder else None
        network = deepcopy(self.plain)
        if self.rank:
            add_adapters(network, self.rank, self.options.seed)
        network = network.to(self.device).train()
        crops = work.crops if work and work.crops else self._crops(network)
        if work and not work.crops:
            work.begin(crops)
        examples = self.examples = CropSampler(
            self.checked,
            self.card.task,
            seed=self.options.seed,
            crops=crops,
            keeps_measured=keeps_measured(self.plain),
        )
        if not examples.training_slices:
            return self._unchanged_outcome("nothing is marked 1 (train here) in a slice that may be trained on")
        held = examples.held_out(SCORED_SLICES)
        watched = evenly_spaced(len(held), WATCHED_SLICES)
        before = yield from self._scores(self._fused(self.old), held, Weights.OLD)
        if not math.isfinite(mean_score(before).psnr):
            verdict = judge(before, before)
            return self._outcome(verdict, [], None, None)
        self.start = mean_score([before[i] for i in watched])

        batches = one_batch(examples.draw, self.options.seed)
        options = _training_options(self.options, self.rank, self.plain)
        trainer = self.trainer = Trainer(network, batches, options, loss_of(self.checked.mode))
        if work:
            self.record = work.resume(trainer)
        yield from self._train(trainer, [held[i] for i in watched], work)
        # If nothing was better, the last weights are shown, so that the figures say how far off they are.
        state = self.record.best_state or trainer.averaged()
        network = self._fused(self._plain_weights(state))
        after = yield from self._scores(network, held, Weights.NEW)
        rows = [Row(one.scan, one.index, old, new) for one, old, new in zip(held, before, after, strict=True)]
        one = held[len(held) // 2]
        images = [restored(chosen, one.degraded, one.rule) for chosen in (self._fused(self.old), network)]
        shown = picture([one.degraded, *images, one.target], self.window)
        return self._outcome(self._verdict(before, after), rows, state, shown)

    def _train(self, trainer: Trainer, watched: Sequence[HeldOut], work: WorkFolder | None) -> Steps:
        first, begun, saved = trainer.step, time.monotonic(), time.monotonic()
        every = self.options.score_every or max(_FEWEST_STEPS_BETWEEN, math.ceil(self.options.steps / _SCORES))
        for step in guarded(trainer, self.device, "close other programs, or choose the CPU"):
            self.record.losses.append(step.loss)
            if not math.isfinite(step.loss):
                self.record.trouble = f"the loss of step {step.step} was NaN or infinite, so the training ended there"
                return
            score = None
            if step.step % every == 0 or step.step == self.options.steps or self.stopped:
                score = yield from self._watch(trainer, watched)
            if work and (score or time.monotonic() - saved > SECONDS_BETWEEN_SAVES):
                work.save(trainer, self.record)
                saved = time.monotonic()
            seconds = (time.monotonic() - begun) / (step.step - first) * (self.options.steps - step.step)
            progress = replace(
                self._progress(),
                loss=step.loss,
                learning_rate=step.learning_rate,
                score=score,
                seconds_left=seconds,
            )
            try:
                yield from self._tell(progress)
            except GeneratorExit:
                if work:
                    work.save(trainer, self.record)
                raise
            if self.stopped and score:
                return

    def _watch(self, trainer: Trainer, watched: Sequence[HeldOut]) -> Steps:
        """Score the averaged weights, and keep them if they are the best; return the score."""
        assert self.start is not None
        state = trainer.averaged()
        scores = yield from self._scores(self._fused(self._plain_weights(state)), watched, Weights.CURRENT)
        score = mean_score(scores)
        self.record.add(trainer.step, score, self.start, state)
        return score

    def _scores(self, network: RestoreRWKV, held: Sequence[HeldOut], weights: Weights) -> Steps:
        scores = []
        for n, one in enumerate(held):
            scores.append(score_one(restored(network, one.degraded, one.rule), one, self.window))
            yield from self._tell(self._progress(Scoring(n + 1, len(held), weights)))
        return scores

    def _tell(self, progress: FineTuneStep) -> Steps:
        """Yield a record, with the requested preview, and receive the next request."""
        if self.wanted is not None and self.examples and self.trainer:
            index, self.wanted = self.wanted, None
            image, rule = self.examples.whole(index)
            network = self._fused(self._plain_weights(self.trainer.averaged()))
            progress = replace(progress, preview=Preview(index, np.asarray(image), restored(network, image, rule)))
        request = yield progress
        if request == STOP:
            self.stopped = True
        elif request is not None:
            self.wanted = int(request)

    def _progress(self, scoring: Scoring | None = None) -> FineTuneStep:
        return FineTuneStep(
            step=self.trainer.step if self.trainer else 0,
            total=self.options.steps,
            scoring=scoring,
            start=self.start,
            best_step=self.record.best_step,
            warnings=self.checked.warnings,
        )

    def _verdict(self, before: Sequence[Score], after: Sequence[Score]) -> Verdict:
        verdict = judge(before, after, estimated=self.checked.mode == "noisy")
        if self.record.best_step:
            return verdict
        assert self.start is not None
        reason = self.record.trouble
        if self.record.curve:
            best = max(entry["psnr"] for entry in self.record.curve)
            reason = (
                "at no step did the held-out slices score better with SSIM no worse "
                f"(PSNR was {self.start.psnr:.2f} dB with the old weights, and {best:.2f} dB at most)"
            )
        return replace(verdict, accepted=False, reason=kept(reason))

    def _unchanged_outcome(self, reason: str) -> FineTuned:
        unknown = Score(math.nan, math.nan)
        return self._outcome(Verdict(False, kept(reason), unknown, unknown), [], None, None)

    def _outcome(
        self, verdict: Verdict, rows: Sequence[Row], state: Mapping[str, Tensor] | None, shown: bytes | None
    ) -> FineTuned:
        card = describe(
            self.checked,
            self.card,
            self.options,
            rank=self.rank,
            record=self.record,
            verdict=verdict,
            rows=rows,
            window=self.window,
        )
        return FineTuned(
            verdict=verdict,
            rows=tuple(rows),
            card=card,
            picture=shown,
            old=self.old,
            new=None if state is None else self._plain_weights(state),
            adapters=adapters_in(state) if state is not None and self.rank else None,
            curve=tuple(self.record.curve),
            plain=self.plain,
        )

    def _plain_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A trainer's state as weights of the plain network, adapters merged as they are when a bundle is read."""
        return merged(without_adapters(state), adapters_in(state)) if self.rank else dict(state)

    def _fused(self, weights: Mapping[str, Tensor]) -> RestoreRWKV:
        return for_inference(self.plain, self.card, weights).to(self.device)

    def _crops(self, network: RestoreRWKV) -> tuple[tuple[int, int], ...]:
        plane = Slices(self.checked.material[0].scan, self.checked.axis).plane
        return crops_that_fit(network, self.options.crops or CROPS, plane, available_memory(self.device))

    def _identity(self) -> dict[str, Any]:
        """What identifies a run, as plain values."""
        options = {name: value for name, value in asdict(self.options).items() if name not in ("device", "title")}
        return {
            "weights": self.card.weights_sha256,
            "options": options,
            "mode": self.checked.mode,
            "split": [asdict(split) for split in self.checked.splits],
            "scans": fingerprints(self.checked),
        }


def _rank(network: RestoreRWKV, options: FineTuneOptions) -> int:
    if options.adapter_rank is not None:
        return options.adapter_rank
    large = sum(parameter.numel() for parameter in network.parameters()) > LARGEST_FOR_ALL_WEIGHTS
    return DEFAULT_RANK if large else 0


def _training_options(options: FineTuneOptions, rank: int, network: RestoreRWKV) -> TrainingOptions:
    large = _rank(network, replace(options, adapter_rank=None)) > 0
    usual = ADAPTER_RATE if rank else FULL_RATE if large else LIGHT_RATE
    rate = usual if options.learning_rate is None else options.learning_rate
    return TrainingOptions(
        steps=options.steps,
        learning_rate=rate,
        final_learning_rate=rate / 100,
        warm_up_steps=max(1, min(50, options.steps // 10)),
        # The average covers about the last twentieth of the training.
        average_decay=min(0.998, max(0.9, 1 - 20 / options.steps)),
        seed=options.seed,
    )


def _check_task(task: str, checked: Checked) -> None:
    """Raise ScanError if a degradation has to be simulated and it is not known how."""
    if checked.mode != "reference" or task in STRENGTHS:
        return
    raise ScanError(
        f"To train on reference scans alone, their degradation is simulated, but not for {task or 'an unknown task'}; "
        f"choose one of {', '.join(STRENGTHS)} as the task, or give degraded scans as well."
    )
