"""Judges weights: any network, shipped or a user's own, on the phantoms of its modality."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CheckpointError, ScanError
from ..network.restorer import card_of
from ..progress import Run
from ..tasks import MODALITIES
from .ct import qualify_ct
from .mr import qualify_mr
from .pet import qualify_pet
from .verdict import mean_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import nn

    from ..progress import Progress
    from ..scans.scan import Scan
    from .verdict import Qualification

    Judge = Callable[..., Generator[Progress, None, Qualification]]

LEAST_SIDE = 64


def qualify(
    network: nn.Module | None,
    modality: str | None = None,
    *,
    quick: bool = False,
    seed: int = 0,
    seeds: int = 1,
    background: Scan | None = None,
) -> Generator[Progress, None, Qualification]:
    """Measure what a network does to noise, sharpness, faint objects and values, compared with the classical filter.

    Parameters
    ----------
    network
        From `load_checkpoint`; None judges the classical filter at its default.
    modality
        "CT", "MR" or "PET"; None takes that of the network's card.
    quick
        Only the most informative conditions: about a minute on two cores, and ten for all.
    seed, seeds
        Of all noise; with several, from `seed` on, values and limits are means over them, and `Line.spread` is their
        spread.
    background
        CT only: a scan in HU, into whose middle slice faint discs are inserted; None takes the shipped sample.

    Yields
    ------
    Progress
        After each slice and method. The `Qualification` is the value of StopIteration.

    Raises
    ------
    ScanError
        There is no phantom for the modality, the background is smaller than 64 x 64 pixels or not a CT, or there is no
        seed.
    CheckpointError
        The network returns NaN or infinite values.
    """
    card = card_of(network)
    chosen = modality or card.modality
    if chosen not in MODALITIES:
        raise ScanError(
            f"There are phantoms for CT, MR and PET, but not for {chosen or 'a network of unknown modality'}; "
            "choose which of the three to judge the weights for."
        )
    if card.modality not in (None, chosen):
        raise CheckpointError(f"These weights were made for {card.modality}, so they cannot be judged for {chosen}.")
    if background is not None and chosen != "CT":
        raise ScanError(f"A background is only for CT, but {chosen} is judged; leave it out.")
    if seeds < 1:
        raise ScanError(f"At least one seed is needed for the noise; got {seeds}.")
    title = card.title or "classical"
    judge: Judge
    if chosen == "CT":
        judge = partial(qualify_ct, network, title, quick=quick, background=_background(background))
    else:
        judge = partial(qualify_mr if chosen == "MR" else qualify_pet, network, title, quick=quick)
    return _over_seeds(judge, range(seed, seed + seeds))


def _over_seeds(judge: Judge, seeds: range) -> Generator[Progress, None, Qualification]:
    """Judge with one seed after another; the value of StopIteration has the means."""
    found: list[Qualification] = []
    for seed in seeds:
        with closing(Run(judge(seed=seed))) as steps:
            for step in steps:
                yield replace(step, done=len(found) * step.total + step.done, total=len(seeds) * step.total)
        found.append(steps.result)
    return mean_of(found)


def _background(scan: Scan | None) -> tuple[np.ndarray, float]:
    """Return a square slice in HU and the side of its pixels in mm; of 512 pixels or more, binned 2 x 2."""
    if scan is None:
        from ..scans.files import read_scan
        from ..scans.samples import sample_path

        scan = read_scan(sample_path("ct_abdomen_dicom"))
    if scan.modality != "CT":
        raise ScanError(f"The background must be a CT scan in HU; got {scan.modality or 'an unknown modality'}.")
    height, width = scan.shape[1:]
    if min(height, width) < LEAST_SIDE:
        raise ScanError(
            f"The background has slices of {height} x {width} pixels; {LEAST_SIDE} along each side are needed."
        )
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = np.asarray(scan.voxels[scan.shape[0] // 2], np.float64)[top : top + side, left : left + side]
    pixel_mm = float(scan.spacing_mm[1])
    if side >= 512:
        half = side // 2
        image = image[: 2 * half, : 2 * half].reshape(half, 2, half, 2).mean(axis=(1, 3))
        pixel_mm *= 2
    return np.nan_to_num(image, nan=-1000.0), pixel_mm
