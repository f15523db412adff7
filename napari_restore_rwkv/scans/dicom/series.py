"""DICOM series: which images below a folder are the slices of one scan; anything left out is reported."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from ...errors import ScanError
from ..integrity import broken
from .detection import is_dicom, is_dicomdir
from .directory import missing_files
from .errors import NoScanError, SeveralSeriesError
from .files import DAMAGED, files_below
from .image import images_of
from .stack import Stacks, stacks_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .image import SeriesImage

_NAMED = 5
# Files of one series may have rounded their pixel spacing to different digits.
_ROUNDED = 1e-4
_PARALLEL = 1e-3
# Part of the distance between slices by which gaps within one stack may differ.
_UNEVEN = 0.3


@dataclass(frozen=True, slots=True)
class Series:
    """One series as found.

    Attributes
    ----------
    uid
        Its UID, or its number if that is blank.
    description
        The scanner's description.
    images
        In the order of their files.
    notes
        Sentences for the user about how it was found.
    """

    uid: str
    description: str
    images: tuple[SeriesImage, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        count = len(self.images)
        return f'"{self.description or "no description"}" ({_short(self.uid)}, {count} image{"s" * (count != 1)})'


def series_key(uid: str) -> str:
    """Return an uninformative name for a series, which selects it as the end of its UID does."""
    return f"sha256:{hashlib.sha256(uid.encode()).hexdigest()[:32]}"


def read_series(path: Path, series: str | None = None, correct_tilt: bool = False) -> Stacks:
    """Return the stacks of the series below a folder, on the disk of a DICOMDIR, or in one file.

    No pixels are read; arguments and errors are those of `read_dicom`.
    """
    chosen = _chosen(path, find_series(path), series)
    _refuse_different(chosen.images)
    stacks = stacks_of(path, chosen.images, correct_tilt)
    return Stacks(stacks.frames, stacks.names, (*chosen.notes, *stacks.notes))


def find_series(path: Path) -> list[Series]:
    """Return all series below a folder, on the disk of a DICOMDIR, or in one file, by their UID.

    Raises
    ------
    ScanError
        There is none, or a DICOM file is damaged.
    """
    path = path.absolute().parent if is_dicomdir(path) else path
    files, links = files_below(path) if path.is_dir() else ([path], [])
    images: list[SeriesImage] = []
    left_out: list[str] = []
    strangers: dict[str, NoScanError] = {}
    for file in files:
        if not is_dicom(file):
            left_out.append(file.name)
            continue
        try:
            found = images_of(file)
        except NoScanError as error:
            strangers[file.name] = error
            continue
        images += found
        left_out += [] if found or is_dicomdir(file) else [file.name]
    if not images:
        if strangers:
            raise next(iter(strangers.values()))
        raise ScanError(
            f"{path.name} contains no DICOM images; give the folder with the slices of one series, "
            "or a .nii, .nii.gz, .nrrd, .mha or .mhd file."
        )
    missing = [name for file in files if is_dicomdir(file) for name in missing_files(file, files)]
    notes = [
        *([_left_out([*left_out, *strangers])] if left_out or strangers else []),
        *([f"Missing, although the DICOMDIR lists them: {_listed(missing)}."] if missing else []),
        *([f"Not looked into, because they are links to other folders: {_listed(links)}."] if links else []),
    ]
    grouped: dict[str, list[SeriesImage]] = defaultdict(list)
    try:
        for image in images:
            grouped[_uid(image)].append(image)
        return [
            _one(f"{uid} stack {stack}" if stack else uid, members, notes)
            for uid, whole in sorted(grouped.items())
            for stack, members in sorted(_by_stack(whole).items())
        ]
    # Pydicom parses a value when it is accessed.
    except DAMAGED as error:
        raise broken(path, "the UIDs of its images or series are damaged") from error


def _by_stack(images: list[SeriesImage]) -> dict[str, list[SeriesImage]]:
    """Split a series into its stacks, by their names, if they lie in different places; one without a name otherwise."""
    stacks: dict[str, list[SeriesImage]] = defaultdict(list)
    for image in images:
        stacks[image.text("StackID")].append(image)
    return {"": images} if len(stacks) == 1 or _is_one_place(images) else stacks


def _is_one_place(images: list[SeriesImage]) -> bool:
    """Whether images are parallel and evenly spaced."""
    directions = np.array([image.orientation for image in images])
    gaps = np.diff(np.unique(np.round([image.height_mm for image in images], 2)))
    even = gaps.size == 0 or np.ptp(gaps) <= _UNEVEN * np.median(gaps)
    return bool(even and np.isclose(directions, directions[0], atol=_PARALLEL).all())


def _one(uid: str, images: list[SeriesImage], notes: list[str]) -> Series:
    description = str(images[0].tags.get("SeriesDescription") or "")
    once = _without_copies(images)
    copies = len(images) - len(once)
    note = f"{copies} of its images {'is a duplicate' if copies == 1 else 'are duplicates'} and left out."
    return Series(uid, description, tuple(once), (*notes, *([note] if copies else [])))


def _without_copies(images: list[SeriesImage]) -> list[SeriesImage]:
    """Keep the first of images with the same UID, position and pixels."""
    same: dict[tuple[str, int | None], list[SeriesImage]] = defaultdict(list)
    for image in images:
        same[str(image.tags.get("SOPInstanceUID") or image.path), image.frame].append(image)
    dropped: set[int] = set()
    digest_of = cache(_pixel_digest)
    for group in same.values():
        digests: set[tuple[bytes, str]] = set()
        for image in group if len(group) > 1 else ():
            known = digest_of(image.path), str([*image.corner_mm, *image.orientation.ravel()])
            if known in digests:
                dropped.add(id(image))
            digests.add(known)
    return [image for image in images if id(image) not in dropped]


def _pixel_digest(path: Path) -> bytes:
    try:
        with warnings.catch_warnings(action="ignore"):
            return hashlib.sha256(pydicom.dcmread(path, force=True).get("PixelData") or b"").digest()
    except DAMAGED as error:
        raise broken(path, "it is damaged or cut off") from error


def _left_out(names: list[str]) -> str:
    what = "it is not a slice" if len(names) == 1 else "they are not slices"
    return f"Left out, because {what} of a scan: {_listed(names)}."


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _uid(image: SeriesImage) -> str:
    """Return what distinguishes the series: its UID, or its number if the UID is blank."""
    uid = str(image.tags.get("SeriesInstanceUID") or "")
    return uid or f"series number {image.tags.get('SeriesNumber') or 'blank'}"


def _short(uid: str) -> str:
    return uid if uid.startswith("series number") else f"UID ...{uid[-12:]}"


def _chosen(path: Path, found: list[Series], asked: str | None) -> Series:
    listed = ", ".join(f"{number}: {one}" for number, one in enumerate(found, 1))
    if asked is None:
        if len(found) == 1:
            return found[0]
        raise SeveralSeriesError(
            f"{path.name} contains {len(found)} series: {listed}; choose one by its number or the end of its UID "
            "(--series), or put each in its own folder.",
            found,
        )
    keyed = [one for one in found if series_key(one.uid) == asked]
    if keyed:
        return keyed[0]
    if asked.isdecimal() and 1 <= int(asked) <= len(found):
        return found[int(asked) - 1]
    matching = [one for one in found if one.uid.endswith(asked)]
    if len(matching) == 1:
        return matching[0]
    raise ScanError(f"{path.name} has no series {asked}; it contains {listed}.")


def _refuse_different(images: Sequence[SeriesImage]) -> None:
    first = images[0]
    spacings = np.array([image.pixel_mm for image in images])
    orientations = np.array([image.orientation for image in images])
    same_spacing = np.isclose(spacings, spacings[0], rtol=_ROUNDED).all(axis=1)
    parallel = np.isclose(orientations, orientations[0], atol=_PARALLEL).all(axis=(1, 2))
    for image, same_place in zip(images, same_spacing & parallel, strict=True):
        try:
            same_size = (image.tags.Rows, image.tags.Columns) == (first.tags.Rows, first.tags.Columns)
        except DAMAGED as error:
            raise broken(image.path, "its number of rows or columns is damaged or missing") from error
        if not (same_size and same_place):
            raise ScanError(
                f"{image.name} has a different size, pixel spacing or orientation than {first.name}; "
                "leave out images that are not slices of the scan, such as localizers."
            )
