"""Weights evaluated on the paper's test data with the paper's metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..tasks import TASKS
from .folders import pairs_of
from .pairs import Pairs
from .paper import PAPER_FIGURES, paper_source, paper_tasks
from .processes import Processes
from .validation import Validation, ValidationScore, mean_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ..network.model import RestoreRWKV

_FIGURES = ("psnr", "ssim", "rmse")


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one task beside the paper's: PSNR in dB, SSIM, and RMSE in HU, SUV or grey values.

    Attributes
    ----------
    task
        See `TASKS`.
    slices
        How many test slices there were.
    score
        Means over them.
    paper
        What arXiv 2407.11087 reports, for a network for this task alone, on all of its test data.
    """

    task: str
    slices: int
    score: ValidationScore
    paper: ValidationScore

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        both = {"measured": self.score, "paper": self.paper}
        figures = {whose: {name: getattr(score, name) for name in _FIGURES} for whose, score in both.items()}
        return {"task": self.task, "slices": self.slices, **figures}


def measure(network: RestoreRWKV, data: Path, task: str) -> Generator[str, None, list[Measured]]:
    """Restore and score all test slices of a task, or of all three.

    Parameters
    ----------
    network
        Fused, as from `load_checkpoint`.
    data
        The paper's data, see `paper_source`.

    Yields
    ------
    str
        The task, after each slice. The figures are the value of StopIteration.

    Raises
    ------
    ScanError
        There are no test data, or they cannot be read.
    CheckpointError
        The weights were made for another task.
    """
    made_for = network.card.task
    if made_for not in ("", task, "all-in-one"):
        raise CheckpointError(f"These weights were made for {made_for}, not {task}; give --task {made_for}.")
    measured = []
    for one in paper_tasks(task):
        pairs = Pairs(pairs_of(paper_source(data, one, "test")), "paper", seed=0)
        validation = Validation(pairs, None, "paper", Processes())
        rows = []
        for row in validation.scores(network):
            if row is None:
                yield one
            else:
                rows.append(row)
        measured.append(Measured(one, len(rows), mean_of(rows), ValidationScore(*PAPER_FIGURES[one])))
    return measured


def table(measured: list[Measured]) -> str:
    """The figures as lines of text, the paper's beside them."""
    heads = ("task", "slices", "PSNR/dB", "paper", "SSIM", "paper", "RMSE", "paper")
    lines = ["  ".join(f"{head:>{width}}" for head, width in zip(heads, _WIDTHS, strict=True))]
    for one in measured:
        ours, theirs = one.score, one.paper
        words = (
            TASKS[one.task].name,
            str(one.slices),
            *(f"{score.psnr:.2f}" for score in (ours, theirs)),
            *(f"{score.ssim:.4f}" for score in (ours, theirs)),
            *(f"{score.rmse:.4g}" for score in (ours, theirs)),
        )
        lines.append("  ".join(f"{word:>{width}}" for word, width in zip(words, _WIDTHS, strict=True)))
    return "\n".join(lines)


_WIDTHS = (13, 6, 7, 7, 7, 7, 8, 8)
