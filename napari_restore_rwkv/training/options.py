"""The options of fine-tuning, and what it reports while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import ScanError
from ..tasks import TASKS

if TYPE_CHECKING:
    import numpy as np

    from .acceptance import Score

# Sent to the generator, this ends the training with the best weights so far.
STOP = "stop"
# What there is to learn from, see `material.Material`.
Mode = Literal["paired", "reference", "noisy"]
MOST_RANK = 64


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """How to fine-tune; what is annotated is asked for in the viewer, in this order.

    Attributes
    ----------
    steps
        Steps of training; a light network needs some 300 to 2000.
    learning_rate
        None takes 2e-4 for a light network and for adapters, 3e-5 for all weights of a large one.
    adapter_rank
        Rank of the adapters, 1 to 64; 0 trains all weights; None takes 0 for up to 5 million parameters, else 8.
    score_every
        Steps between two scores of the held-out slices; None for a tenth of `steps`, at least 20.
    seed
        Seed of every random choice.
    task
        One of `tasks.TASKS`, for weights that do not say what they are for.
    axis
        Axis across the slices: "z", "y", "x", or "auto"; see `choose_slice_axis`.
    device
        "auto", "cpu", "cuda".
    force
        Accept a pair that is shifted by more than a pixel, or noise that neighbouring slices share.
    title
        Name of the result; None makes one from the weights and the date.
    crops
        Sides (0 for whole slices) and batch of each; None takes `crops.CROPS` as far as they fit into memory.
    """

    steps: Annotated[
        int,
        {
            "label": "Steps",
            "tooltip": "Steps of training: 300 to 2000 for a light network",
            "min": 1,
            "max": 20_000,
            "step": 100,
        },
    ] = 500
    learning_rate: float | None = None
    adapter_rank: int | None = None
    score_every: int | None = None
    seed: int = 0
    task: str = ""
    axis: str = "auto"
    device: Annotated[
        str, {"label": "Run on", "tooltip": "Where to compute", "choices": [("the fastest there is", "auto")]}
    ] = "auto"
    force: Annotated[
        bool, {"label": "continue anyway", "tooltip": "Train on these scans although they do not match well"}
    ] = False
    title: str | None = None
    crops: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        rate, rank = self.learning_rate, self.adapter_rank
        if self.steps < 1 or (self.score_every is not None and self.score_every < 1):
            raise ScanError(f"Fine-tuning needs 1 step or more; got {min(self.steps, self.score_every or 1)}.")
        if rate is not None and not 0 < rate <= 0.01:
            raise ScanError(f"The learning rate must be above 0 and up to 0.01; got {rate:g}. The usual value is 2e-4.")
        if rank is not None and not 0 <= rank <= MOST_RANK:
            raise ScanError(f"The rank of adapters must be 1 to {MOST_RANK}, or 0 for all weights; got {rank}.")
        if self.task and self.task not in TASKS:
            raise ScanError(f'There is no task "{self.task}"; choose one of {", ".join(TASKS)}.')


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """Slice `index` of the first scan, (Y, X) in its unit: as the network sees it, and as currently restored."""

    index: int
    degraded: np.ndarray
    restored: np.ndarray


class Weights(Enum):
    """Which weights held-out slices are scored with."""

    OLD = "old"
    CURRENT = "current"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Scoring:
    """Progress of scoring held-out slices.

    Attributes
    ----------
    done, total
        Slices scored and to be scored.
    weights
        Which weights they are scored with.
    """

    done: int
    total: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class FineTuneStep:
    """What is known after a step, or while the held-out slices are scored.

    Attributes
    ----------
    step, total
        Steps done and steps requested.
    scoring
        Progress of the scoring, while held-out slices are scored; None after a step.
    loss, learning_rate
        Of this step; nan before the first.
    score
        Mean of the watched held-out slices, if they were scored at this step; else None.
    start
        Their score with the old weights.
    best_step
        Step of the weights that would be kept now; 0 for the old ones.
    seconds_left
        Estimated; None at the beginning.
    warnings
        Sentences for the user, the same in every record.
    preview
        Present if requested with ``send(index)``.
    """

    step: int
    total: int
    scoring: Scoring | None = None
    loss: float = math.nan
    learning_rate: float = math.nan
    score: Score | None = None
    start: Score | None = None
    best_step: int = 0
    seconds_left: float | None = None
    warnings: tuple[str, ...] = ()
    preview: Preview | None = None
