"""The classical filters offered beside weights, under the name "classical:TASK", and one function to load either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..tasks import TASKS
from .checkpoint import load_checkpoint
from .non_local_means import NonLocalMeans
from .restorer import Card

if TYPE_CHECKING:
    from pathlib import Path

    from .restorer import Restorer

PREFIX = "classical:"
# Tuned on training subjects over all strengths of the benchmark: noise is smooth in CT and even smoother in PET.
_STRENGTHS = {"ct-denoise": 3.5, "mri-sr": 1.0, "pet-low-count": 7.0}
CLASSICAL = {task: PREFIX + task for task in _STRENGTHS}


def classical_name(task: str) -> str:
    """Return the name of the classical filter for a task; `CheckpointError` if there is none."""
    if task not in CLASSICAL:
        raise CheckpointError(
            f"There is no classical filter for {task}; choose one of the tasks {', '.join(CLASSICAL)}."
        )
    return CLASSICAL[task]


def load_restorer(name: str | Path) -> Restorer:
    """Load weights as `load_checkpoint` does, or make the classical filter of that name.

    Parameters
    ----------
    name
        "classical:" and a task, such as "classical:ct-denoise", or what `load_checkpoint` takes.

    Returns
    -------
    Restorer
        Maps (B, 1, Y, X) in network units to the same shape. Its attribute ``card`` is a `Card`.

    Raises
    ------
    CheckpointError
        As `load_checkpoint` does.
    """
    task = str(name).removeprefix(PREFIX)
    if name != CLASSICAL.get(task):
        return load_checkpoint(name)
    network = NonLocalMeans(_STRENGTHS[task])
    network.card = Card(
        title="non-local means",
        task=task,
        modality=TASKS[task].modality,
        intended_use="The classical filter: it averages pixels whose surroundings look alike. Research only.",
        limits="It removes noise and adds no resolution. Anything fainter than the noise is smoothed away.",
    )
    return network
