"""Scores of whole slices that are not trained on, divided among the training processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..metrics import score_slice
from ..scans.slice_axis import evenly_spaced
from .acceptance import finite_mean, restored, window_of
from .paper import paper_restored, paper_score

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ..network.model import RestoreRWKV
    from .pairs import Pairs
    from .processes import Processes


@dataclass(frozen=True, slots=True)
class ValidationScore:
    """Means over validation slices: PSNR in dB, SSIM, and RMSE in the unit of the scans; nan where undefined."""

    psnr: float
    ssim: float
    rmse: float


class Validation:
    """Slices, evenly spaced over all pairs.

    Parameters
    ----------
    pairs
        Where they come from.
    slices
        Maximum number; None for all.
    protocol
        See `TrainConfig`.
    processes
        Each scores its part of the slices.
    """

    def __init__(self, pairs: Pairs, slices: int | None, protocol: str, processes: Processes) -> None:
        self._pairs, self._protocol, self._processes = pairs, protocol, processes
        self.places = _spread(pairs, slices)

    def scores(self, network: RestoreRWKV) -> Iterator[dict[str, Any] | None]:
        """Score a fused network; yield None after each slice of this process, and at the end every row once."""
        own = []
        for number, index in self.places[self._processes.rank :: self._processes.size]:
            own.append(self._row(network, number, index))
            yield None
        rows = [row for rows in self._processes.gathered(own) for row in rows]
        yield from sorted(rows, key=lambda row: (row["pair"], row["slice"]))

    def _row(self, network: RestoreRWKV, number: int, index: int) -> dict[str, Any]:
        image, target = self._pairs.both(number, index)
        pair = self._pairs.opened(number)
        figures = (
            _score_as_in_paper(network, image, target, pair)
            if self._protocol == "paper"
            else _plugin_score(network, image, target, pair)
        )
        name = self._pairs.pairs[number].target.name
        return {
            "pair": number,
            "name": name,
            "slice": index,
            **dict(zip(("psnr", "ssim", "rmse"), figures, strict=True)),
        }


def mean_of(rows: list[dict[str, Any]]) -> ValidationScore:
    """The mean of each figure over the rows where it is finite."""
    return ValidationScore(*(finite_mean([row[name] for row in rows]) for name in ("psnr", "ssim", "rmse")))


def _plugin_score(network: RestoreRWKV, image: np.ndarray, target: np.ndarray, pair: Any) -> tuple[float, float, float]:
    score = score_slice(restored(network, image, pair.rule), target, window_of(pair.modality))
    return score.psnr, score.ssim, score.rmse


def _score_as_in_paper(
    network: RestoreRWKV, image: np.ndarray, target: np.ndarray, pair: Any
) -> tuple[float, float, float]:
    device = next(network.parameters()).device
    with torch.no_grad():
        values = network(torch.from_numpy(pair.rule.to_network(image))[None, None].to(device))
    return paper_score(paper_restored(values[0, 0].float().cpu().numpy(), pair.modality), target, pair.modality)


def _spread(pairs: Pairs, most: int | None) -> list[tuple[int, int]]:
    """Scans first, then slices within them: if few slices are wanted, most scans are not even opened."""
    count = len(pairs) if most is None else min(most, len(pairs))
    chosen = evenly_spaced(len(pairs), count)
    places = []
    for place, number in enumerate(chosen):
        there = len(pairs.opened(number).target)
        wanted = there if most is None else min(there, most // count + (place < most % count))
        # The middle of that many equal parts.
        places += [(number, int((part + 0.5) * there / wanted)) for part in range(wanted)]
    return places
