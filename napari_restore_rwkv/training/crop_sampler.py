"""Training crops, drawn from the scans while the training runs; nothing is packed beforehand.

A batch is a pair of tensors in network units: degraded crops (B, 1, Y, X), and (B, 3, Y, X) with the target, the weight
of each pixel's error, and which coefficients of the crop's 2-D FFT were measured and are put back after restoration
(`restoration.data_consistency`; none for most weights). `loss_of` combines them:

    loss = sum(weight * |restored - target|^p) / sum(weight),    p = 1, or 2 if the target itself is noisy

If frequencies were measured, the error is that of the others, plus a quarter of that of all. Pixels of weight 0 add
exactly nothing to the loss or to its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..restoration.intensity import IntensityRule, choose_intensity
from ..restoration.kspace import Extent, measured_coefficients, measured_extent
from ..scans.noise.smoothing import box_mean
from ..scans.slice_axis import evenly_spaced
from ..simulate.whole_scan import STRENGTHS
from .annotations import EMPHASISE, IGNORE, KEEP, TRAIN, labelled_slice, weights_of
from .crops import CROPS, random_flips, turned
from .noise import degraded
from .slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .material import Checked

    Batch = tuple[Tensor, Tensor]

# Weight of errors that are corrected after restoration, relative to those that are not.
ALL_FREQUENCIES = 0.25
# Whole slices are rare: one costs as much as a dozen steps of small crops.
_CROP_ODDS = (0.30, 0.28, 0.22, 0.14, 0.05, 0.01)
# Simulation takes seconds for a large slice: some slices are degraded twice, with strengths around the chosen one.
_REALISATIONS, _MOST_SIMULATED_SLICES = 2, 32
_STRENGTH_SPREAD = 0.35
# Where smoothed neighbouring slices differ by more than this many deviations, anatomy changes: these pixels are
# ignored.
_LARGEST_CHANGE = 3.0

Images = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A slice that is scored before and after: (Y, X) each, in the unit of the scan.

    Attributes
    ----------
    scan, index
        Number of the scan, and of the slice in it.
    degraded, target
        What is restored, and its target: for noisy scans the mean of the neighbouring slices.
    neighbours
        For noisy scans the two neighbours themselves; else None.
    counted
        Where errors count.
    rule
        How values map to the network's range.
    """

    scan: int
    index: int
    degraded: np.ndarray
    target: np.ndarray
    neighbours: tuple[np.ndarray, np.ndarray] | None
    counted: np.ndarray
    rule: IntensityRule


class CropSampler:
    """Draws training batches from checked material, and reads its held-out slices.

    Parameters
    ----------
    checked
        The material with its split; its held-out slices are only read by `held_out`.
    task
        Whose degradation is simulated if only references are given.
    seed
        Of the simulated noise; a batch depends only on the generator that it is drawn with.
    crops
        Sides (0 for a whole slice) and batch of each; see `crops.CROPS`.
    keeps_measured
        Whether measured frequencies are put back after restoration, as the weights require.
    """

    def __init__(
        self,
        checked: Checked,
        task: str,
        *,
        seed: int = 0,
        crops: Sequence[tuple[int, int]] = CROPS,
        keeps_measured: bool = False,
    ) -> None:
        self.seed, self.crops, self.mode = seed, tuple(crops), checked.mode
        known = {side: odds for (side, _), odds in zip(CROPS, _CROP_ODDS, strict=True)}
        odds = np.array([known.get(side, 1.0) for side, _ in self.crops])
        self._probabilities = odds / odds.sum()
        everything = [labels for labels in checked.covered if labels]
        only_marked = any(labels.slices[TRAIN] for labels in everything)
        self._sources = [
            _Source(checked, n, task, seed, only_marked, keeps_measured) for n in range(len(checked.material))
        ]
        self._training = [
            (m, i)
            for m, (split, labels) in enumerate(zip(checked.splits, checked.covered, strict=True))
            for i in self._sources[m].usable(split.training)
            if not only_marked or (labels and labels.slices_with(TRAIN, EMPHASISE, KEEP) & {i})
        ]
        self._held = [(m, i) for m, split in enumerate(checked.splits) for i in split.held_out]

    @property
    def training_slices(self) -> int:
        """Number of slices that batches are drawn from."""
        return len(self._training)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw a batch of crops of one size, each flipped at random."""
        side, count = self.crops[rng.choice(len(self.crops), p=self._probabilities)]
        pieces = [self._piece(rng, side) for _ in range(count)]
        # Whole slices of several scans may have several shapes.
        pieces = [piece for piece in pieces if piece[0].shape == pieces[0][0].shape]
        given, *wanted = (np.stack(images) for images in zip(*pieces, strict=True))
        return torch.from_numpy(given[:, None]), torch.from_numpy(np.stack(wanted, axis=1))

    def held_out(self, most: int | None = None) -> list[HeldOut]:
        """Read the held-out slices, at most this many of them, evenly spaced."""
        count = len(self._held)
        chosen = range(count) if most is None else evenly_spaced(count, most)
        return [self._sources[m].held_out(m, i) for m, i in (self._held[n] for n in chosen)]

    def whole(self, index: int) -> tuple[np.ndarray, IntensityRule]:
        """The degraded slice of the first scan, as shown in a preview, and its intensity rule."""
        source = self._sources[0]
        return source.degraded(min(max(index, 0), len(source.given) - 1)), source.rule

    def _piece(self, rng: np.random.Generator, side: int) -> Images:
        m, i = self._training[int(rng.integers(len(self._training)))]
        return self._sources[m].piece(i, side, rng)


def loss_of(mode: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the loss for `Trainer`, called with restored, wanted (see above) and degraded images."""

    def loss(restored: Tensor, wanted: Tensor, given: Tensor) -> Tensor:
        target, weight, measured = wanted.split(1, dim=1)
        difference = torch.where(weight > 0, restored - target, 0)
        # The mean of noisy targets is the truth; their median need not be.
        size = torch.square if mode == "noisy" else torch.abs
        error = size(difference)
        if measured.any():
            remaining = torch.fft.ifft2(torch.fft.fft2(difference) * (1 - measured)).real
            error = (size(remaining) + ALL_FREQUENCIES * error) / (1 + ALL_FREQUENCIES)
        return (weight * error).sum() / weight.sum().clamp_min(1)

    return loss


class _Source:
    """The examples from one scan."""

    def __init__(
        self, checked: Checked, number: int, task: str, seed: int, only_marked: bool, keeps_measured: bool
    ) -> None:
        self.one, self.axis, self.mode = checked.material[number], checked.axis, checked.mode
        self.training, self.distance = checked.splits[number].training, checked.distances[number]
        self.task, self.seed, self.only_marked, self.keeps_measured = task, seed, only_marked, keeps_measured
        self.given = Slices(self.one.scan, self.axis)
        self.reference = None if self.one.target is None else Slices(self.one.target, self.axis)
        self.rule = choose_intensity(self.one.scan)
        self._simulated: dict[tuple[int, int], np.ndarray] = {}
        self._extents: dict[tuple[int, int], Extent | None] = {}
        self._change: float | None = None

    def usable(self, numbers: Sequence[int]) -> Sequence[int]:
        """The training slices that are available in reasonable time: all, or some if they have to be simulated."""
        if self.mode != "reference" or len(numbers) <= _MOST_SIMULATED_SLICES:
            return numbers
        return [numbers[i] for i in evenly_spaced(len(numbers), _MOST_SIMULATED_SLICES)]

    def degraded(self, index: int, realisation: int = 0) -> np.ndarray:
        """The slice that goes into the network, whole, (Y, X)."""
        return self.given.read(index) if self.mode != "reference" else self._simulate(index, realisation)

    def piece(self, index: int, side: int, rng: np.random.Generator) -> Images:
        """A crop in network units: degraded, target, weight, and which of its coefficients were measured."""
        height, width = self.given.plane
        rows, columns = (side, side) if side else (height, width)
        labels = None if self.one.labels is None else labelled_slice(self.one.labels, index, self.axis)
        y, x = self._corner(labels, rows, columns, rng)
        box = (slice(y, y + rows), slice(x, x + columns))
        realisation = int(rng.integers(_REALISATIONS))
        given = self.degraded(index, realisation)[box]
        marked = None if labels is None else labels[box]
        weight = weights_of(marked, given.shape, self.only_marked)
        target = self._target(index, box, weight)
        if marked is not None:
            target = np.where(marked == KEEP, given, target)
        weight *= np.isfinite(given) & np.isfinite(target)
        flips = random_flips(rng)
        images = (self.rule.to_network(given), self.rule.to_network(target), weight)
        given, target, weight = (turned(image, (rows, columns), flips) for image in images)
        return given, target, weight, self._measured(index, realisation, (rows, columns))

    def held_out(self, number: int, index: int) -> HeldOut:
        whole = (slice(None), slice(None))
        given = self.degraded(index)
        weight = np.ones(given.shape, np.float32)
        neighbours = None
        if self.mode == "noisy":
            before, _, after = self._around(index, whole)
            neighbours = (before, after)
        target = self._target(index, whole, weight)
        if self.one.labels is not None:
            labels = labelled_slice(self.one.labels, index, self.axis)
            target = np.where(labels == KEEP, given, target)
            weight *= labels != IGNORE
        counted = (weight > 0) & np.isfinite(given) & np.isfinite(target)
        return HeldOut(number, index, np.asarray(given), np.asarray(target), neighbours, counted, self.rule)

    def _corner(self, labels: np.ndarray | None, rows: int, columns: int, rng: np.random.Generator) -> tuple[int, int]:
        """Upper left corner of a crop, which contains at least one pixel that counts, if the slice has one."""
        height, width = self.given.plane
        most_y, most_x = max(0, height - rows), max(0, width - columns)
        places = np.flatnonzero(weights_of(labels, labels.shape, self.only_marked)) if labels is not None else ()
        if not len(places):
            return int(rng.integers(most_y + 1)), int(rng.integers(most_x + 1))
        y, x = divmod(int(places[rng.integers(len(places))]), width)
        y, x = y - int(rng.integers(rows)), x - int(rng.integers(columns))
        return min(max(y, 0), most_y), min(max(x, 0), most_x)

    def _target(self, index: int, box: tuple[slice, slice], weight: np.ndarray) -> np.ndarray:
        """The target of the crop; where that is unknown, its weight becomes 0."""
        if self.mode != "noisy":
            assert self.reference is not None
            return self.reference.read(index)[box]
        before, given, after = self._around(index, box)
        target = (before + after) / 2
        smooth = [box_mean(np.nan_to_num(image)) for image in (before, given, after)]
        if self._change is None:
            self._change = self._usual_change()
        # The mean of two has half the noise variance, which reduces its difference from the middle one.
        weight *= np.abs(smooth[2] - smooth[0]) <= _LARGEST_CHANGE * self._change
        weight *= np.abs(smooth[1] - (smooth[0] + smooth[2]) / 2) <= _LARGEST_CHANGE * self._change * np.sqrt(0.75)
        return target

    def _measured(self, index: int, realisation: int, crop: tuple[int, int]) -> np.ndarray:
        """Which coefficients of a crop are put back after restoration, 1 or 0."""
        if not self.keeps_measured:
            return np.zeros(crop, np.float32)
        key = (index, realisation)
        if key not in self._extents:
            whole = self.degraded(index, realisation)
            self._extents[key] = measured_extent(whole) if np.isfinite(whole).all() else None
        extent = self._extents[key]
        if extent is None:
            return np.zeros(crop, np.float32)
        return measured_coefficients(self.given.plane, extent, crop).astype(np.float32)

    def _around(self, index: int, box: tuple[slice, slice]) -> Images:
        """A crop of a slice, between the same crops of the slices before and after it with independent noise."""
        numbers = (index - self.distance, index, index + self.distance)
        before, given, after = (self.given.read(i)[box].astype(np.float32) for i in numbers)
        return before, given, after

    def _usual_change(self) -> float:
        """Robust deviation of the difference of smoothed neighbouring slices, in the unit of the scan."""
        changes = []
        for n in evenly_spaced(len(self.training), 4):
            before, _, after = self._around(self.training[n], (slice(None), slice(None)))
            difference = np.abs(box_mean(np.nan_to_num(before)) - box_mean(np.nan_to_num(after)))
            if difference.any():
                changes.append(1.4826 * float(np.median(difference[difference > 0])))
        return float(np.median(changes)) if changes else 0.0

    def _simulate(self, index: int, realisation: int) -> np.ndarray:
        key = (index, realisation)
        if key not in self._simulated:
            rng = np.random.default_rng((self.seed, index, realisation))
            limits = STRENGTHS[self.task]
            # The first realisation, used for previews and scores, has exactly the chosen strength.
            spread = rng.uniform(-_STRENGTH_SPREAD, _STRENGTH_SPREAD) if realisation else 0.0
            strength = (self.one.strength or limits.usual) * np.exp(spread)
            strength = min(max(float(strength), limits.least), limits.most)
            assert self.reference is not None
            number = int(rng.integers(2**31))
            self._simulated[key] = degraded(self.reference, index, self.task, strength, number)
        return self._simulated[key]
