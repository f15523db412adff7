"""Crops from many scans on disk, which are opened when they are first sampled.

The n-th crop of a training run depends only on the seed and n, whichever process draws it, so a batch can be divided
among processes, and training resumed with the same bits. Crops are sampled with replacement: a source by its share, one
of its scans, one of that scan's slices, a position in it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import ScanError
from ..restoration.intensity import IntensityRule, choose_intensity
from ..scans.lazy import LARGE_BYTES
from ..scans.opening import open_scan
from ..scans.slice_axis import choose_slice_axis
from ..simulate.whole_scan import STRENGTHS
from .crops import random_flips, turned
from .noise import degraded
from .paper import PAPER_RULES
from .paper_slices import SLICE_SUFFIX, read_slice
from .registration import check_pair
from .slices import Slices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..scans.scan import Scan
    from .config import Schedule, TrainConfig
    from .folders import Pair
    from .processes import Processes
    from .train import Batch

# Voxels held in memory; beyond that, slices are read from disk, where compressed files are unpacked once.
HELD_BYTES = 4 << 30
_KEPT_SLICE_BYTES = 16 << 20
_REALISATIONS, _KEPT_SIMULATED = 2, 256


@dataclass(slots=True, eq=False)
class Opened:
    """An open pair.

    Attributes
    ----------
    given
        Degraded slices; None if they are simulated.
    target
        Their targets.
    rule
        How values map to the network's range.
    modality
        Of both, None if unknown.
    """

    given: Slices | None
    target: Slices
    rule: IntensityRule
    modality: str | None


class Pairs:
    """Pairs of scans, opened when they are needed and kept open while their voxels fit into memory.

    Parameters
    ----------
    pairs
        The pairs to open.
    protocol
        See `TrainConfig`.
    seed
        Of the simulated degradation.
    held_bytes
        Maximum bytes of voxels in memory.
    """

    def __init__(self, pairs: Sequence[Pair], protocol: str, seed: int, held_bytes: int = HELD_BYTES) -> None:
        self.pairs, self._protocol, self._seed, self._most = tuple(pairs), protocol, seed, held_bytes
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._simulated: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        # Readers take turns with the disk; slices are cached in tables that two threads must not change at once.
        self._turn = threading.RLock()

    def __len__(self) -> int:
        return len(self.pairs)

    def opened(self, number: int) -> Opened:
        """A pair, ready to be read.

        Raises
        ------
        ScanError
            One of its scans cannot be read, or the two do not match.
        """
        with self._turn:
            if number not in self._open:
                self._open[number] = self._opened(self.pairs[number])
                while len(self._open) > 1 and self._held() > self._most:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return self._open[number]

    def both(self, number: int, index: int, realisation: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """A degraded slice and its target, (Y, X) each in the unit of the scan."""
        with self._turn:
            pair = self.opened(number)
            target = np.asarray(pair.target.read(index))
            given = pair.given.read(index) if pair.given else self._degraded(number, index, realisation)
            return np.asarray(given), target

    def crop(self, rng: np.random.Generator, number: int, schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
        """A crop of a random slice and its target, both in network units."""
        pair = self.opened(number)
        index, realisation = int(rng.integers(len(pair.target))), int(rng.integers(_REALISATIONS))
        side = schedule.crop
        y, x = (int(rng.integers(max(0, length - side) + 1)) for length in pair.target.plane)
        flips = random_flips(rng) if schedule.flips else (slice(None), slice(None))
        turns = int(rng.integers(4)) if schedule.rotations else 0
        box = (slice(y, y + side), slice(x, x + side))
        given, target = (
            turned(pair.rule.to_network(image[box]), (side, side), flips, turns)
            for image in self.both(number, index, realisation)
        )
        return given, target

    def _opened(self, pair: Pair) -> Opened:
        if pair.degraded is None:
            _check_strength(pair)
        room = self._most - self._held()
        target = _scan(pair.target, pair.modality, room)
        given = None if pair.degraded is None else _scan(pair.degraded, pair.modality, room)
        if given is not None:
            try:
                check_pair(given, target)
            except ScanError as error:
                raise ScanError(f"{pair.target.name}: {error}") from error
        shown = target if given is None else given
        axis = choose_slice_axis(shown).axis
        slices = [scan and Slices(scan, axis, _KEPT_SLICE_BYTES) for scan in (given, target)]
        rule = PAPER_RULES.get(shown.modality or "") if self._protocol == "paper" else choose_intensity(shown)
        if rule is None:
            raise ScanError(f'{pair.target.name} needs a modality for the protocol "paper"; give its task.')
        return Opened(slices[0], slices[1], rule, shown.modality)  # type: ignore[arg-type]

    def _held(self) -> int:
        both = [scan for pair in self._open.values() for scan in (pair.given, pair.target) if scan]
        return sum(one.scan.voxels.nbytes for one in both if isinstance(one.scan.voxels, np.ndarray))

    def _degraded(self, number: int, index: int, realisation: int) -> np.ndarray:
        key = (number, index, realisation)
        if key not in self._simulated:
            pair, rng = self.pairs[number], np.random.default_rng((self._seed, *key))
            least, most = pair.strength or (STRENGTHS[pair.task].usual,) * 2
            strength = float(np.exp(rng.uniform(np.log(least), np.log(most))))
            slices = self.opened(number).target
            self._simulated[key] = degraded(slices, index, pair.task, strength, int(rng.integers(2**31)))
            if len(self._simulated) > _KEPT_SIMULATED:
                self._simulated.popitem(last=False)
        self._simulated.move_to_end(key)
        return self._simulated[key]


class Crops:
    """The batches of each step, for the trainer.

    Parameters
    ----------
    pairs
        The pairs to sample from.
    config
        See `TrainConfig`.
    processes
        The processes that train together: each draws its part of every batch.
    """

    def __init__(self, pairs: Pairs, config: TrainConfig, processes: Processes) -> None:
        self._pairs, self._schedule, self._processes = pairs, config.schedule, processes
        odds = np.array([pair.odds for pair in pairs.pairs])
        self._probabilities = odds / odds.sum()

    def __call__(self, step: int) -> list[Batch]:
        """Draw the batches of a step, those of this process."""
        schedule, processes = self._schedule, self._processes
        # Batches of all processes are consecutive, as they would be in one process's larger batch.
        first = step * schedule.accumulate * processes.size + processes.rank
        numbers = [first + n * processes.size for n in range(schedule.accumulate)]
        return [self._batch(number * schedule.batch) for number in numbers]

    def _batch(self, first: int) -> Batch:
        crops = [self._crop(first + n) for n in range(self._schedule.batch)]
        given, target = (torch.from_numpy(np.stack(images)[:, None]) for images in zip(*crops, strict=True))
        return given, target

    def _crop(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self._schedule.seed, number))
        return self._pairs.crop(rng, int(rng.choice(len(self._probabilities), p=self._probabilities)), self._schedule)


def _scan(path: Path, modality: str | None, room: int) -> Scan:
    if path.suffix.lower() == SLICE_SUFFIX:
        return read_slice(path, modality)
    return open_scan(path, modality=modality, large=LARGE_BYTES if room > 0 else 0)


def _check_strength(pair: Pair) -> None:
    known = STRENGTHS[pair.task]
    least, most = pair.strength or (known.usual, known.usual)
    if not known.least <= least <= most <= known.most:
        raise ScanError(
            f"The strength of {pair.task} ({known.meaning}) must be from {known.least:g} to {known.most:g}; "
            f"got {least:g} to {most:g}."
        )
