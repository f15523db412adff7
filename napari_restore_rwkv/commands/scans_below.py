"""The scans below a folder, each of which is restored separately; anything else is listed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ScanError
from ..scans.dicom.detection import is_dicom
from ..scans.volume.streaming import is_volume_file
from ..scans.zarr.reading import is_zarr

# Files that belong to a scan beside them.
_COMPANIONS = (".json", ".raw", ".zraw", ".img")


@dataclass(frozen=True, slots=True)
class Source:
    """One scan of many.

    Attributes
    ----------
    path
        Its file or folder.
    name
        Its name in the table, and that of its result; unique below the folder.
    series
        Which DICOM series of the folder, if there are several.
    """

    path: Path
    name: str
    series: str | None = None


def scans_below(folder: Path) -> tuple[list[Source], list[str]]:
    """Return the scans at any depth below a folder, by name, and the names of files and folders without any.

    Volume files, zarr folders, and DICOM series: the files of one folder and all below it, as a series is read. A
    folder that directly contains the slices of a single series is a scan, and has none below it.
    """
    files = [path for path in _entries(folder) if path.is_file()]
    if any(is_dicom(path) for path in files if not is_volume_file(path)):
        found = _series(folder, folder.name)
        return ([], []) if len(found) == 1 else (found, [])
    sources, left_out = [], []
    for path in _entries(folder):
        below = _in(path, path.name)
        sources += below
        left_out += [] if below or path.suffix.lower() in _COMPANIONS else [path.name]
    return sorted(sources, key=lambda source: source.name), left_out


def _in(path: Path, name: str) -> list[Source]:
    if path.is_file():
        return [Source(path, name)] if is_volume_file(path) else []
    if is_zarr(path):
        return [Source(path, name)]
    found = []
    dicom = False
    for place, folders, names in os.walk(path):
        here = Path(place)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        inner = [one for one in folders if is_zarr(here / one)]
        folders[:] = [one for one in folders if one not in inner]
        files = [here / one for one in sorted(names) if not one.startswith(".")]
        volumes = [one for one in [*(here / zarr for zarr in inner), *files] if one.is_dir() or is_volume_file(one)]
        found += [Source(one, "_".join([name, *one.relative_to(path).parts])) for one in volumes]
        dicom = dicom or any(one.is_file() and is_dicom(one) for one in files if one not in volumes)
    return [*found, *(_series(path, name) if dicom else [])]


def _series(folder: Path, name: str) -> list[Source]:
    from ..scans.dicom.series import find_series

    try:
        found = find_series(folder)
    except ScanError:
        # The table says why it cannot be read.
        return [Source(folder, name)]
    if len(found) == 1:
        return [Source(folder, name)]
    words = [re.sub(r"\W+", "-", one.description).strip("-") for one in found]
    return [
        Source(folder, "_".join(filter(None, [name, str(number), word])), one.uid)
        for number, (one, word) in enumerate(zip(found, words, strict=True), 1)
    ]


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
