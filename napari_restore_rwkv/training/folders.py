"""The pairs of scans that a training configuration names, found on disk but not yet opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ScanError
from ..scans.dicom.detection import is_dicom
from ..scans.volume.files import volume_suffix
from ..scans.volume.streaming import is_hdf5
from ..scans.zarr.reading import is_zarr
from ..tasks import TASKS
from .paper_slices import SLICE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .config import Source, TrainConfig

# Without scans to validate on, one in this many is held out for that.
_ONE_IN = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Two scans of the same name, or a reference alone.

    Attributes
    ----------
    degraded, target
        Where they are; degraded is None if it is simulated.
    task, modality, strength
        See `config.Source`; the modality is that of the task if none is given.
    odds
        How often it is drawn, relative to the others.
    """

    degraded: Path | None
    target: Path
    task: str
    modality: str | None
    strength: tuple[float, float] | None
    odds: float


def training_and_validation(config: TrainConfig) -> tuple[list[Pair], list[Pair]]:
    """Find all pairs of a configuration, those to train on and those to validate on.

    Raises
    ------
    ScanError
        A folder is missing or contains no scans, a scan has no partner, or there are too few to hold one out for
        validation.
    """
    found = [pairs_of(source) for source in config.data]
    if config.validation:
        return _flat(found), _flat([pairs_of(source) for source in config.validation])
    for source, pairs in zip(config.data, found, strict=True):
        if len(pairs) < 2:
            raise ScanError(
                f"{source.target} contains one scan, which cannot serve for training and validation; name others in "
                "[[validation]]."
            )
    training = [[pair for n, pair in enumerate(pairs, 1) if n % _every(pairs)] for pairs in found]
    return _flat(training), _flat([pairs[_every(pairs) - 1 :: _every(pairs)] for pairs in found])


def pairs_of(source: Source) -> list[Pair]:
    """Find the pairs of a source, in order of their names."""
    assert source.target is not None
    targets = _scans(source.target)
    partners = dict.fromkeys(targets) if source.degraded is None else _scans(source.degraded)
    # Two single scans are a pair whatever they are called.
    if source.degraded is not None and len(targets) == len(partners) == 1:
        partners = dict(zip(targets, partners.values(), strict=True))
    if odd := sorted(targets.keys() ^ partners.keys()):
        where = source.target if odd[0] in targets else source.degraded
        raise ScanError(f'"{odd[0]}" is only in {where}; give the degraded scans and their targets the same names.')
    modality = source.modality or (TASKS[source.task].modality if source.task else None)
    odds = 1.0 if source.share is None else source.share / len(targets)
    strength = None if source.strength is None else (source.strength[0], source.strength[1])
    return [Pair(partners[name], path, source.task, modality, strength, odds) for name, path in sorted(targets.items())]


def _scans(place: Path) -> dict[str, Path]:
    """The scans of a folder by file name without suffix, or the single scan that the path itself is."""
    if not place.exists():
        raise ScanError(f"{place} does not exist; correct its name.")
    if _is_scan(place):
        return {_bare(place): place}
    entries = sorted(place.iterdir()) if place.is_dir() else []
    found = {_bare(one): one for one in entries if not one.name.startswith(".") and _is_scan(one)}
    if not found:
        raise ScanError(
            f"{place} contains no scans; give a scan, or a folder of them (NIfTI, NRRD, MHA/MHD, zarr, HDF5, DICOM "
            "folders)."
        )
    return found


def _is_scan(path: Path) -> bool:
    if path.is_dir():
        return is_zarr(path) or any(one.is_file() and is_dicom(one) for one in path.iterdir())
    return bool(volume_suffix(path)) or is_hdf5(path) or path.suffix.lower() == SLICE_SUFFIX


def _bare(path: Path) -> str:
    name = path.name
    while name.lower().endswith(
        (".gz", ".nii", ".nrrd", ".mha", ".mhd", ".zarr", ".ome", ".h5", ".hdf5", SLICE_SUFFIX)
    ):
        name = name.rsplit(".", 1)[0]
    return name


def _every(pairs: Sequence[Pair]) -> int:
    return min(_ONE_IN, len(pairs))


def _flat(found: Sequence[Sequence[Pair]]) -> list[Pair]:
    return [pair for pairs in found for pair in pairs]
