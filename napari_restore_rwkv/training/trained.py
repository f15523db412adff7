"""The result of training from scratch: the best weights, their card and their bundle."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..network.checkpoint import for_inference
from ..network.restorer import Card
from ..tasks import TASKS
from .bundle import save_bundle
from .outcome import inherited, versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ..network.model import RestoreRWKV
    from .config import TrainConfig
    from .pairs import Pairs
    from .resume import Record
    from .validation import ValidationScore

_PROTOCOLS = {
    "ours": "PSNR, SSIM and RMSE of whole slices; CT in its soft tissue window",
    "paper": "PSNR, SSIM and RMSE as in arXiv 2407.11087",
}


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The result of training.

    Attributes
    ----------
    card
        Of the best weights: data, schedule, curve, and what they score.
    weights
        The best weights by name, on the CPU.
    score
        Their score on the validation slices.
    curve
        One record for each scoring of these.
    plain
        A network of the same size, not fused.
    """

    card: Card
    weights: Mapping[str, Tensor]
    score: ValidationScore
    curve: tuple[Mapping[str, float], ...]
    plain: RestoreRWKV

    def network(self) -> RestoreRWKV:
        """Return a fused network for `restore`."""
        return for_inference(deepcopy(self.plain).cpu(), self.card, self.weights)

    def save(self, path: Path) -> Path:
        """Write a bundle, as fine-tuning does; OutputError if the file already exists."""
        return save_bundle(path, self.card, weights=self.weights)


def task_of(config: TrainConfig) -> str:
    """The one task of all sources; all-in-one for several, "" for none."""
    tasks = {source.task for source in config.data} - {""}
    return next(iter(tasks)) if len(tasks) == 1 else "all-in-one" if tasks else ""


def described(
    config: TrainConfig,
    training: Pairs,
    validation: Pairs,
    *,
    record: Record,
    rows: list[dict[str, Any]],
    start: Card | None,
    processes: int,
) -> Card:
    """Write the card of new weights, without the names of folders."""
    now, task = datetime.now(UTC), task_of(config)
    modality = TASKS[task].modality if task else None
    details = {
        "created": now.isoformat(timespec="seconds"),
        **(inherited(start) if start else {}),
        "trained": "all weights",
        "mode": "trained from weights" if start else "trained from scratch",
        "data": {"training_scans": _counts(training), "validation_scans": _counts(validation)},
        "schedule": asdict(config.schedule),
        "processes": processes,
        "protocol": config.protocol,
        "curve": record.curve,
        "best_step": record.best_step,
        # File names may reveal who was scanned.
        "validation": {"what": _PROTOCOLS[config.protocol], "rows": [_without_name(row) for row in rows]},
        "versions": versions(),
    }
    return Card(
        title=config.title or f"{task or 'restoration'}, trained {now:%Y-%m-%d %H:%M}",
        task=task,
        modality=modality,
        created=f"{now:%Y-%m-%d}",
        intended_use="Scans made like those that were trained on. Research only.",
        limits="Measured on the validation scans that also chose the best step, not on others.",
        details=details,
    )


def _counts(pairs: Pairs) -> dict[str, int]:
    """Number of scans of each kind."""
    counts: dict[str, int] = {}
    for pair in pairs.pairs:
        kind = f"{pair.task or 'no task'}, {'simulated' if pair.degraded is None else 'paired'}"
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _without_name(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "name"}
