"""What is compared: the input, the classical filter at its default and tuned, and the network being judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..network.classical import CLASSICAL, load_restorer
from ..network.non_local_means import NonLocalMeans
from ..progress import Phase, Progress, finish
from ..restoration.restore import iter_restore
from ..scans.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from torch import nn

INPUT, DEFAULT, TUNED, JUDGED = "input", "classical", "classical, tuned", "network"
# Strengths to try, as multiples of the default.
_TRIED = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)


@dataclass(frozen=True, slots=True)
class Images:
    """Slices that are restored one by one, each as a single-slice scan.

    Attributes
    ----------
    values
        Shape (n, Y, X), in the unit of the modality.
    modality, unit
        As of a `Scan`.
    pixel_mm
        Side of a pixel in mm.
    """

    values: np.ndarray
    modality: str
    unit: str
    pixel_mm: float


class Work:
    """Counts finished work, for `Progress`."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def step(self, detail: str) -> Progress:
        """Report that one more slice has passed through one more method."""
        self.done = min(self.done + 1, self.total)
        return Progress(Phase.MEASURING, self.done, self.total, detail=detail)


def restored(images: Images, network: nn.Module) -> Iterable[np.ndarray]:
    """Restore slice by slice, exactly as a single-slice scan is restored."""
    for values in images.values:
        scan = Scan(
            np.asarray(values, np.float32)[np.newaxis],
            spacing_mm=(3.0, images.pixel_mm, images.pixel_mm),
            modality=images.modality,
            unit=images.unit,
        )
        yield np.asarray(finish(iter_restore(scan, network, axis="z", any_modality=True)).voxels[0], np.float32)


def outputs(
    methods: dict[str, nn.Module | None], images: Images, work: Work, what: str
) -> Generator[Progress, None, dict[str, np.ndarray]]:
    """Run images through every method; the value of StopIteration is their results by name, in the same shape."""
    results = {}
    for name, network in methods.items():
        if network is None:
            results[name] = np.asarray(images.values, np.float32)
            continue
        stack = []
        for one in restored(images, network):
            stack.append(one)
            yield work.step(f"{what}: {name}")
        results[name] = np.stack(stack)
    return results


def tuned(task: str, images: Images, truth: np.ndarray) -> NonLocalMeans:
    """Return the classical filter with the strength that is closest to the truth, by squared error."""
    usual = _classical(task)

    def error(strength: float) -> float:
        network = _with_strength(usual, strength)
        [result] = restored(images, network)
        return float(np.square(result - truth).mean())

    return _with_strength(usual, min((float(usual.strength) * part for part in _TRIED), key=error))


def methods_for(task: str, network: nn.Module | None, best: NonLocalMeans) -> dict[str, nn.Module | None]:
    """Return the methods by name; without a network the classical filter is judged."""
    methods: dict[str, nn.Module | None] = {INPUT: None, DEFAULT: _classical(task), TUNED: best}
    if network is not None:
        methods[JUDGED] = network
    return methods


def judged(methods: Sequence[str] | dict[str, nn.Module | None]) -> str:
    """Name of the method that the limits are for."""
    return JUDGED if JUDGED in methods else DEFAULT


def _classical(task: str) -> NonLocalMeans:
    network = load_restorer(CLASSICAL[task])
    assert isinstance(network, NonLocalMeans)
    return network


def _with_strength(usual: NonLocalMeans, strength: float) -> NonLocalMeans:
    network = NonLocalMeans(strength)
    network.card = usual.card
    return network
