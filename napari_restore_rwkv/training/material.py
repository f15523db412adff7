"""The user's data to fine-tune on: one or two scans, and what is marked on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError, ScanError
from ..scans.noise.estimate import neighbour_correlation
from ..scans.slice_axis import choose_slice_axis
from .annotations import GAP, Coverage, Split, coverage, leakage, plan_splits
from .noise import LARGEST_CORRELATION, NOTICEABLE_CORRELATION
from .registration import check_pair, check_shift, estimated_shift, mismatched
from .slices import Slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..scans.scan import Scan
    from .options import Mode


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One example to train on.

    Attributes
    ----------
    degraded, target
        Both: a registered pair. Only `target`: a good scan, whose degradation is simulated. Only `degraded`: a noisy
        scan, trained with its neighbouring slices as targets.
    labels
        Integers of the same shape, see `annotations.PALETTE`; None if nothing is marked.
    strength
        Of the simulated degradation, see `simulate.whole_scan.STRENGTHS` and `noise.fit_strength`; None for the usual.
    """

    degraded: Scan | None = None
    target: Scan | None = None
    labels: Any = None
    strength: float | None = None

    @property
    def mode(self) -> Mode:
        """How the given scans can be used for training.

        Raises
        ------
        ScanError
            If there is none.
        """
        if self.degraded is None and self.target is None:
            raise ScanError("There is nothing to train on: give a degraded scan, its reference, or both.")
        if self.degraded is not None and self.target is not None:
            return "paired"
        return "noisy" if self.target is None else "reference"

    @property
    def scan(self) -> Scan:
        """The scan whose grid, modality and values the network will see: the degraded one if there is one."""
        chosen = self.degraded if self.degraded is not None else self.target
        assert chosen is not None
        return chosen


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Material that has been checked.

    Attributes
    ----------
    material
        As given, each with the modality of the weights if its own is unknown.
    axis
        Array axis across the slices.
    covered
        What the labels of each cover.
    splits
        Which slices of each are trained on and held out.
    warnings
        Sentences for the user.
    useless
        Why training is not possible; "" if it is.
    distances
        For noisy scans, the distance between a slice and its training targets: 1, or 2 if neighbours share their
        noise.
    """

    material: tuple[Material, ...]
    axis: int
    covered: tuple[Coverage | None, ...]
    splits: tuple[Split, ...]
    warnings: tuple[str, ...]
    useless: str
    distances: tuple[int, ...] = ()

    @property
    def mode(self) -> Mode:
        """The mode that all have in common."""
        return self.material[0].mode


def check_material(
    material: Material | Sequence[Material], modality: str | None, *, axis: str = "auto", force: bool = False
) -> Checked:
    """Check everything that can be checked before training.

    Parameters
    ----------
    modality
        That of the weights; None for any.
    axis
        "z", "y", "x", or "auto"; see `choose_slice_axis`.
    force
        Accept a shifted pair, and noise that neighbouring slices share.

    Raises
    ------
    ScanError
        If scans and labels do not match, or a pair is shifted by more than a pixel and not forced.
    CheckpointError
        If the weights are for another modality.
    """
    chosen = [material] if isinstance(material, Material) else list(material)
    if not chosen:
        raise ScanError("There is nothing to train on: give at least one scan.")
    if len({one.mode for one in chosen}) > 1:
        raise ScanError("Some scans have a reference and others do not; give all of them a reference, or none.")
    for one in chosen:
        _check_one(one, modality)
    chosen = [_with_modality(one, modality) for one in chosen]
    along = choose_slice_axis(chosen[0].scan, axis).axis
    covered = [None if one.labels is None else coverage(one.labels, along) for one in chosen]
    splits = plan_splits([one.scan.shape[along] for one in chosen], covered)
    warnings = [words for labels in covered if labels and (words := leakage(labels))]
    useless, distances = "", [1 for _ in chosen]
    if chosen[0].mode == "paired":
        pairs = [_both(one, along) for one in chosen]
        warnings += [words for pair in pairs if (words := check_shift(estimated_shift(*pair), force))]
        useless = mismatched(pairs) or _identical(pairs)
    if chosen[0].mode == "noisy":
        distances = [_independent_distance(one, axis, force) for one in chosen]
        splits = [
            _with_neighbours(split, one.scan.shape[along], distance)
            for split, one, distance in zip(splits, chosen, distances, strict=True)
        ]
        warnings += [words for one, far in zip(chosen, distances, strict=True) if (words := _shared(one, axis, far))]
    useless = useless or _too_little(splits, chosen)
    return Checked(tuple(chosen), along, tuple(covered), tuple(splits), tuple(warnings), useless, tuple(distances))


def _check_one(one: Material, modality: str | None) -> None:
    scan = one.scan
    if modality and scan.modality and scan.modality != modality:
        raise CheckpointError(
            f"These weights were made for {modality}, but this scan is {scan.modality}; "
            f"choose weights for {scan.modality}."
        )
    if one.degraded is not None and one.target is not None:
        check_pair(one.degraded, one.target)
    if one.labels is not None and tuple(one.labels.shape) != tuple(scan.shape):
        raise ScanError(
            f"The labels have shape {tuple(one.labels.shape)} and the scan {tuple(scan.shape)}; "
            "give labels on the grid of the scan."
        )


def _with_modality(one: Material, modality: str | None) -> Material:
    """Give scans of unknown modality that of the weights, which decides their intensity rule."""

    def known(scan: Scan | None) -> Scan | None:
        if scan is None or scan.modality or modality is None:
            return scan
        return scan.with_voxels(scan.voxels, modality=modality)

    return replace(one, degraded=known(one.degraded), target=known(one.target))


def _both(one: Material, along: int) -> tuple[Slices, Slices]:
    assert one.degraded is not None
    assert one.target is not None
    return Slices(one.degraded, along), Slices(one.target, along)


def _identical(pairs: Sequence[tuple[Slices, Slices]]) -> str:
    """Report if nothing is degraded; constant scans are left to the scores."""
    for degraded, target in pairs:
        for i in (0, len(degraded) // 2, len(degraded) - 1):
            one, other = degraded.read(i), target.read(i)
            if not np.array_equal(one, other) or np.ptp(one) == 0:
                return ""
    return "the degraded scans are identical to their reference, so there is nothing to restore"


def _with_neighbours(split: Split, count: int, distance: int) -> Split:
    """Keep slices with a neighbour on either side: only they can be trained on, or scored."""
    inner = range(distance, count - distance)
    return Split(
        tuple(i for i in split.training if i in inner), tuple(i for i in split.held_out if i in inner), split.between
    )


def _independent_distance(one: Material, axis: str, force: bool) -> int:
    """The smallest distance at which slices have independent noise; raises ScanError if even the second shares it.

    A distance of at most the gap of a split keeps held-out slices out of the training.
    """
    along = choose_slice_axis(one.scan, axis).axis
    found = [neighbour_correlation(one.scan, along, distance) for distance in range(1, GAP + 1)]
    for distance, correlation in enumerate(found, 1):
        if correlation < LARGEST_CORRELATION:
            return distance
    if force:
        return GAP
    raise ScanError(
        f"The noise of neighbouring slices is correlated ({found[0]:.2f}, and {found[-1]:.2f} two slices apart, where "
        "0 is independent), so one slice does not reveal the noise of another. Give a pair, or a reference."
    )


def _shared(one: Material, axis: str, distance: int) -> str:
    """Warn about noise that the slices share; "" if there is little."""
    correlation = neighbour_correlation(one.scan, choose_slice_axis(one.scan, axis).axis)
    if correlation < NOTICEABLE_CORRELATION:
        return ""
    words = f"The noise of neighbouring slices is correlated ({correlation:.2f}, where 0 is independent)"
    if distance > 1:
        return f"{words}, so targets are slices {distance} away, and some finer detail is lost."
    return f"{words}: some of it will not be removed."


def _too_little(splits: Sequence[Split], material: Sequence[Material]) -> str:
    training, held = (sum(len(getattr(split, name)) for split in splits) for name in ("training", "held_out"))
    total = sum(len(split.training) + len(split.held_out) + len(split.between) for split in splits)
    if training and held:
        return ""
    if any(one.labels is not None for one in material) and not training:
        return "no slice is left to train on, because all are held out or next to held-out ones"
    return (
        f"{total} slice{'s' if total != 1 else ''} cannot be split into some to train on and some held out "
        "with two between them"
    )
