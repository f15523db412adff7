"""What a user marks on a scan before fine-tuning, and which slices are trained on and which are held out.

A labels volume has the shape of its scan and one value per voxel, see `PALETTE`. A slice with any `HOLD_OUT` voxel is
held out as a whole: neighbouring pixels of a slice share noise, so training on one part would leak into the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ScanError
from ..scans.scan import slice_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

TRAIN, EMPHASISE, IGNORE, KEEP, HOLD_OUT = 1, 2, 3, 4, 5

# Slices on either side of a held-out one that are not trained on: thick or overlapping slices show the same anatomy.
GAP = 2
HELD_OUT_FRACTION = 0.2
FEWEST_TRAINING_SLICES = 4
# With at least this many scans, whole scans are held out rather than slices of each.
MANY_SCANS = 5

_EMPHASIS = 3.0


@dataclass(frozen=True, slots=True)
class Class:
    """One class of the palette: its name, what it does, and a colour for a viewer (red, green, blue, 0 to 1)."""

    name: str
    meaning: str
    colour: tuple[float, float, float]


PALETTE = {
    TRAIN: Class("train here", "only what is marked 1 or 2 is trained on", (0.17, 0.63, 0.17)),
    EMPHASISE: Class("emphasise", "counts three times", (1.0, 0.5, 0.05)),
    IGNORE: Class("ignore", "errors here do not count, such as on metal or overlays", (0.5, 0.5, 0.5)),
    KEEP: Class("keep as is", "the input itself is the target", (0.12, 0.47, 0.71)),
    HOLD_OUT: Class("hold out", "the slice is never trained on, and scored before and after", (0.84, 0.15, 0.16)),
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much each class covers.

    Attributes
    ----------
    slices, pixels
        By label value: slices with at least one such pixel, and pixels in all.
    by_slice
        For each slice in order, the number of pixels of each label.
    """

    slices: Mapping[int, int]
    pixels: Mapping[int, int]
    by_slice: tuple[Mapping[int, int], ...]

    def slices_with(self, *labels: int) -> set[int]:
        """Numbers of the slices that have any of these labels."""
        return {i for i, counts in enumerate(self.by_slice) if any(label in counts for label in labels)}


@dataclass(frozen=True, slots=True)
class Split:
    """Numbers of the slices of one scan: trained on, held out, and neither, because they are next to held-out ones."""

    training: tuple[int, ...]
    held_out: tuple[int, ...]
    between: tuple[int, ...] = ()


def coverage(labels: Any, axis: int = 0) -> Coverage:
    """Count what a labels volume covers, slice by slice.

    Parameters
    ----------
    labels
        Integers of shape (Z, Y, X), 0 for unmarked voxels; read one slice at a time.
    axis
        The axis across the slices.

    Raises
    ------
    ScanError
        If there is a value that is not in the palette.
    """
    by_slice = []
    for i in range(labels.shape[axis]):
        image = labelled_slice(labels, i, axis)
        values, counts = np.unique(image[image != 0], return_counts=True)
        if unknown := sorted({int(value) for value in values} - PALETTE.keys()):
            meanings = ", ".join(f"{value} {known.name}" for value, known in PALETTE.items())
            raise ScanError(f"Slice {i} has the unknown label {unknown[0]}; use {meanings}.")
        by_slice.append({int(value): int(count) for value, count in zip(values, counts, strict=True)})
    return Coverage(
        {label: sum(label in counts for counts in by_slice) for label in PALETTE},
        {label: sum(counts.get(label, 0) for counts in by_slice) for label in PALETTE},
        tuple(by_slice),
    )


def leakage(covered: Coverage) -> str:
    """Warn about slices that are marked for training next to held-out ones; "" if there are none."""
    held, marked = covered.slices_with(HOLD_OUT), covered.slices_with(TRAIN, EMPHASISE, KEEP)
    near = sorted(_around(held) & (marked - held))
    both = sorted(marked & held)
    words = []
    if near:
        words.append(
            f"{_slices(near)} marked for training, but within {GAP} slices of a held-out one and would leak into its "
            "score: not trained on. Mark slices further away."
        )
    if both:
        words.append(f"{_slices(both)} marked for training and held out: held out as a whole.")
    return " ".join(words)


def plan_split(count: int, covered: Coverage | None = None) -> Split:
    """Choose the held-out slices of one scan: those marked so, otherwise one block of a fifth of the slices.

    The block avoids slices marked for training, and their neighbours: what a user paints should be trained on.

    Parameters
    ----------
    count
        Slices of the scan.
    covered
        What its labels cover, if it has any.

    Returns
    -------
    Split
        Both `training` and `held_out` may be empty if the scan has too few slices.
    """
    held = covered.slices_with(HOLD_OUT) if covered else set()
    if not held:
        if count - _block_size(count) - GAP < FEWEST_TRAINING_SLICES:
            return Split(tuple(range(count)), ())
        held = _default_block(count, covered.slices_with(TRAIN, EMPHASISE, KEEP) if covered else set())
    between = {i for i in _around(held) - held if 0 <= i < count}
    training = [i for i in range(count) if i not in held | between]
    return Split(tuple(training), tuple(sorted(held)), tuple(sorted(between)))


def plan_splits(counts: Sequence[int], covered: Sequence[Coverage | None]) -> list[Split]:
    """Choose held-out slices over several scans: marked ones, else whole scans of many, else a block of each."""
    marked = [bool(labels and labels.slices_with(HOLD_OUT)) for labels in covered]
    if any(marked):
        return [
            plan_split(count, labels) if held else Split(tuple(range(count)), ())
            for count, labels, held in zip(counts, covered, marked, strict=True)
        ]
    if len(counts) >= MANY_SCANS:
        first_held = len(counts) - max(1, round(HELD_OUT_FRACTION * len(counts)))
        everything = [tuple(range(count)) for count in counts]
        return [Split((), numbers) if i >= first_held else Split(numbers, ()) for i, numbers in enumerate(everything)]
    return [plan_split(count, labels) for count, labels in zip(counts, covered, strict=True)]


def weights_of(labels: np.ndarray | None, shape: tuple[int, ...], only_marked: bool) -> np.ndarray:
    """How much the error of each pixel counts.

    Parameters
    ----------
    labels
        Labels of one slice or part of it, (Y, X); None for none.
    shape
        Shape of that part.
    only_marked
        Whether something is marked "train here", so that unmarked pixels do not count.

    Returns
    -------
    ndarray
        float32 of that shape: 0 ignored or held out, 1 trained on or kept, 3 emphasised.
    """
    unmarked = 0.0 if only_marked else 1.0
    if labels is None:
        return np.full(shape, unmarked, np.float32)
    table = np.array([unmarked, 1, _EMPHASIS, 0, 1, 0], np.float32)
    return table[labels]


def labelled_slice(labels: Any, index: int, axis: int = 0) -> np.ndarray:
    """One slice of a labels volume, integers of shape (Y, X)."""
    image = slice_of(labels, axis, index)
    if image.dtype.kind not in "iub":
        raise ScanError(f"Labels must be integers, got {image.dtype}; give a labels volume.")
    return image.astype(np.int64)


def _block_size(count: int) -> int:
    return max(1, round(HELD_OUT_FRACTION * count))


def _default_block(count: int, marked: set[int]) -> set[int]:
    """Choose the block that takes the fewest marked slices from the training, as close to the usual place as it can."""
    size = _block_size(count)
    starts: Sequence[int] = range(count - size + 1)
    # After the middle, where the anatomy is like the rest; at an end if two gaps would leave too little.
    usual = round(0.55 * count)
    if count - size - 2 * GAP < 2 * FEWEST_TRAINING_SLICES:
        starts, usual = (count - size, 0), count - size

    def cost(start: int) -> tuple[int, int]:
        return len(_around(range(start, start + size)) & marked), abs(start - usual)

    start = min(starts, key=cost)
    return set(range(start, start + size))


def _around(held: Collection[int]) -> set[int]:
    return {i + offset for i in held for offset in range(-GAP, GAP + 1)}


def _slices(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (" and others" if len(numbers) > 5 else "")
    return f"Slice {shown} is" if len(numbers) == 1 else f"Slices {shown} are"
