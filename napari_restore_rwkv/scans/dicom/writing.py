"""A restored scan as a DICOM series derived from the one that was restored.

Patient, study and position are those of the original, image by image; pixels and identifiers are new.
"""

from __future__ import annotations

import io
import os
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from ...errors import OutputError
from ...progress import Phase, Progress
from ...storage.durable import check_folder_of, creating_errors, sync_file, sync_folder
from ...storage.temporary import TemporaryFolder
from ..export import slabs_of
from ..scan import same_geometry
from ..volume.files import chosen_frame
from .derived import Derivation, derived_slice
from .reading import kind_and_factor, scan_of_series
from .series import read_series
from .values import stored_as

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from ..scan import Scan
    from .image import SeriesImage
    from .values import StoredAs


def write_derived_series(
    scan: Scan,
    folder: Path,
    source: Path,
    record: Mapping[str, Any],
    *,
    time_index: int | None = None,
    series: str | None = None,
) -> Generator[Progress, None, float]:
    """Write a restored scan as DICOM slices, one for each slice of the series that was restored.

    Iterate it for `Progress` in slices. The folder appears once everything is written and checked, or not at all.

    Parameters
    ----------
    scan
        The result, lazy or not, in the geometry and unit in which `read_dicom` reads the series.
    folder
        The output folder, which must not exist yet.
    source
        Folder of the original series.
    record
        How the scan was restored, from ``metadata["restoration"]``.
    time_index
        Which frame of the series was restored, if it has several.
    series
        Which series, if the folder has several; as for `read_dicom`.

    Returns
    -------
    float
        The value of StopIteration: the largest step between stored values, in the unit of the scan; values were rounded
        by at most half of it; 0 if they are exact.

    Raises
    ------
    ScanError
        The series cannot be read.
    OutputError
        The result is not from this series, contains values that slices cannot hold, or cannot be written.
    """
    check_new_folder(folder)
    stacks = read_series(source, series)
    stack = stacks.frames[chosen_frame(source.name, len(stacks.frames), time_index, stacks.names)]
    if any(image.frame is not None for image in stack):
        raise OutputError(
            f"{source.name} is an enhanced (multi-frame) file or a mosaic, but derived series are of single slices: "
            "export to .nii.gz or .mha instead."
        )
    factor = _checked_factor(scan, stack, stacks.images, source)
    ways = yield from _ways(scan, stack, factor)
    steps = [0.0 if way.exact else float(way.slope) * factor for way in ways]
    derivation = _derivation(record, max(steps), scan.unit)
    with creating_errors(folder), TemporaryFolder(folder.parent) as place:
        made = place / folder.name
        made.mkdir()
        for index, values in _slices(scan):
            file = made / f"{index + 1:04d}.dcm"
            tags = derived_slice(stack[index].path, values / factor, ways[index], derivation)
            content = io.BytesIO()
            tags.save_as(content, enforce_file_format=True)
            # Pydicom would put a traceback into the text of the system's errors.
            file.write_bytes(content.getbuffer())
            if pydicom.dcmread(file).PixelData != tags.PixelData:
                raise OutputError(f"{folder.name} cannot be written: {file.name} came out incomplete; try again.")
            sync_file(file)
            yield Progress(Phase.WRITING, index + 1, len(stack))
        if not same_geometry(scan_of_series(read_series(made).images, scan.voxels), scan):
            raise OutputError(
                f"{folder.name} cannot be written: the slices came out in a different position; try again."
            )
        sync_folder(made)
        check_new_folder(folder)
        _rename(made, folder)
        sync_folder(folder.parent)
    return max(steps)


def _rename(made: Path, folder: Path) -> None:
    try:
        os.rename(made, folder)
    except OSError as error:
        if folder.exists():
            raise OutputError(f"{folder} was created by another program in the meantime: give another name.") from error
        raise


def check_new_folder(folder: Path) -> None:
    """Raise OutputError unless a folder of this name can be created."""
    if folder.exists():
        raise OutputError(f"{folder} already exists: give the name of a folder that does not exist yet.")
    check_folder_of(folder)


def _checked_factor(scan: Scan, stack: Sequence[SeriesImage], series: Sequence[SeriesImage], source: Path) -> float:
    """Return the divisor that converts the values of the scan to those of the series, once the two match."""
    first = stack[0].tags
    expected = (len(stack), int(first.Rows), int(first.Columns))
    if scan.shape != expected:
        ours, theirs = (" x ".join(map(str, shape)) for shape in (scan.shape, expected))
        raise OutputError(
            f"The result has {ours} voxels, but {source.name} has {theirs}: give the series that was restored."
        )
    if not same_geometry(scan_of_series(stack, scan.voxels), scan):
        raise OutputError(
            f"The result and {source.name} differ in position: give the series that was restored, and a "
            "result in its orientation."
        )
    kind, factor = kind_and_factor(stack, series)
    if scan.modality not in (None, kind.modality):
        raise OutputError(
            f"The result is {scan.modality}, but {source.name} is {kind.modality or 'of no known modality'}: "
            "give the series that was restored."
        )
    if scan.unit != kind.unit and (scan.unit or kind.modality == "PET"):
        raise OutputError(
            f"The result is in {scan.unit or 'no known unit'}, but {source.name} would be read in "
            f"{kind.unit or 'no known unit'}: give a result that was restored from the series itself."
        )
    return factor or 1.0


def _ways(scan: Scan, stack: Sequence[SeriesImage], factor: float) -> Generator[Progress, None, list[StoredAs]]:
    """Choose how each slice is stored: PET with its own slope, as in the standard, all others alike."""
    pet = str(stack[0].tags.get("Modality")) == "PT"
    whole = np.dtype(scan.voxels.dtype).kind in "iu" and factor == 1.0
    ranges = []
    for index, values in _slices(scan):
        if not np.isfinite(values).all():
            raise OutputError(
                f"Slice {index} contains NaN or infinite values, which DICOM cannot store: export to NIfTI or MHA."
            )
        ranges.append((float(values.min()) / factor, float(values.max()) / factor))
        yield Progress(Phase.EXAMINING, 0, len(stack))
    if not pet:
        ranges = [(min(low for low, _ in ranges), max(high for _, high in ranges))] * len(ranges)
    return [stored_as(low, high, whole=whole, from_zero=pet) for low, high in ranges]


def _slices(scan: Scan) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each slice with its index, (Y, X) in float64, reading a few together."""
    for slices in slabs_of(scan):
        yield from zip(slices, np.asarray(scan.voxels[slices.start : slices.stop], np.float64), strict=True)


def _derivation(record: Mapping[str, Any], step: float, unit: str) -> Derivation:
    software, _, version = str(record.get("software", "")).rpartition(" ")
    digest = record.get("weights_sha256")
    # A method without weights, such as a filter, has a name.
    means = f"Restore-RWKV, weights sha256 {digest}" if digest else str(record.get("weights") or "means not known")
    precision = f"values rounded to steps of {step:.3g} {unit}".rstrip() if step else "values exact"
    text = (
        f"Restored by {software} {version} ({means}), task {record.get('task') or 'not known'}, "
        f"{record.get('mode', 'whole slices')}; {precision}. {record.get('notice', '')}"
    )
    return Derivation(text.strip(), software, version, generate_uid(), datetime.now())
