"""Scans to files: written and checked in a temporary folder, then moved to their final names."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import OutputError, ScanError
from ..storage.durable import put_in_place, sync_file
from ..storage.temporary import TemporaryFolder
from ..storage.uninterrupted import uninterrupted
from ..untrusted import json_object, read_regular
from .geometry import is_orthonormal
from .nifti.header import DESCRIPTION, HEADER_BYTES
from .nifti.place import kept_place
from .scan import same_as_written
from .volume.files import READERS, quiet_itk, read_volume, volume_suffix

if TYPE_CHECKING:
    from .scan import Scan

_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
_LOSE_GEOMETRY = (".tif", ".tiff", ".vtk", ".png", ".jpg", ".jpeg")
_CAUSES = {
    errno.EACCES: "there is no write permission for its folder",
    errno.EPERM: "there is no write permission for its folder",
    errno.EROFS: "its folder is read-only",
    errno.EEXIST: "another program has just written a file of that name",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder does not exist",
    errno.EISDIR: "a folder has that name",
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is exhausted",
    errno.EFBIG: "no space is left on the disk for a file of this size",
    errno.ENAMETOOLONG: "the name is too long",
}


def write_scan(
    scan: Scan, path: str | Path, *, overwrite: bool = True, record: Mapping[str, Any] | None = None
) -> None:
    """Write a scan with its exact geometry; an existing file is replaced only once the new one is complete.

    A record is written beside it as JSON, to the same name plus ``.json``. If there is none, a record written by this
    program that describes a replaced file is removed.

    Parameters
    ----------
    scan
        The scan; voxel types that files do not know are widened (float16 to float32, bool to uint8).
    path
        The file to write; the suffix chooses the format: .nii, .nii.gz, .nrrd, .mha or .mhd.

    overwrite
        Replace a file of this name; otherwise, of several processes that write the same new file, one succeeds and the
        others are refused.
    record
        What is written beside it; None takes "restoration" of ``scan.metadata``, if it is there.

    Raises
    ------
    OutputError
        The format is unknown or would lose the geometry, or the file cannot be written there. Nothing is changed then.
    """
    path = Path(path)
    suffix = _checked_suffix(path)
    voxels = _storable_voxels(scan, path)
    try:
        # Beside the target, because a file can only be moved atomically within one file system.
        with TemporaryFolder(path.parent) as folder:
            _write_volume(scan, voxels, folder, path.name, suffix)
            _verify(scan, voxels, folder / path.name)
            record = scan.metadata.get("restoration") if record is None else record
            if isinstance(record, Mapping):
                text = json.dumps(record, indent=2, default=_plain)
                (folder / f"{path.name}.json").write_text(text + "\n", encoding="utf-8")
                stale = None
            else:
                stale = our_record(path)
            _sync(folder)
            with uninterrupted():
                _move_into_place(folder, path, stale, overwrite)
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"{path.name} cannot be written: {cause}; {_remedy(error.errno)}.") from error


def _checked_suffix(path: Path) -> str:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        # ITK ends the process at such a name.
        shown = path.name.encode(errors="replace").decode()
        raise OutputError(
            f"{shown} cannot be written: the name or its folder has bytes that are no text; give another name."
        ) from error
    suffix = volume_suffix(path)
    if suffix in _SUFFIXES:
        return suffix
    allowed = f"{', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"
    if path.suffix.lower() == ".zarr":
        raise OutputError(
            f"{path.name} cannot be written: OME-Zarr is written only by a restoration (restore-rwkv restore); "
            f"choose a name ending in {allowed}."
        )
    if path.suffix.lower() in _LOSE_GEOMETRY:
        raise OutputError(
            f"{path.name} cannot be written: {path.suffix} would lose the position and direction of the scan; "
            f"choose a name ending in {allowed}."
        )
    raise OutputError(f"{path.name} cannot be written: choose a name ending in {allowed}.")


def _storable_voxels(scan: Scan, path: Path) -> np.ndarray:
    voxels = np.asarray(scan.voxels)
    if voxels.ndim != 3 or voxels.size == 0:
        raise OutputError(f"{path.name} cannot be written: a scan has three dimensions and at least one voxel.")
    if voxels.dtype.kind not in "buif":
        raise OutputError(f"{path.name} cannot be written: files can store real numbers, not {voxels.dtype}.")
    wider = {"float16": np.float32, "bool": np.uint8, "longdouble": np.float64}.get(voxels.dtype.name)
    return np.ascontiguousarray(voxels, dtype=wider or voxels.dtype.newbyteorder("="))


def _write_volume(scan: Scan, voxels: np.ndarray, folder: Path, name: str, suffix: str) -> None:
    image = sitk.GetImageFromArray(voxels)
    _place(image, scan, name)
    if scan.modality:
        image.SetMetaData("modality", scan.modality)
    if scan.unit:
        image.SetMetaData("unit", scan.unit)
    # ITK goes by the suffix in lower case; the final name may have capitals.
    packed = suffix == ".nii.gz"
    stem = name[: -len(suffix)]
    target = folder / (stem + (".nii" if packed else suffix))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(target))
    writer.SetImageIO(READERS[suffix])
    writer.SetUseCompression(suffix == ".nrrd")
    try:
        with quiet_itk():
            writer.Execute(image)
    except RuntimeError as error:
        raise _incomplete(target, voxels.nbytes) from error
    if suffix.startswith(".nii"):
        _describe_nifti(scan, target)
        _keep_matrices(scan, target)
    if packed:
        # On noisy scans the usual level 6 takes several times as long for files that are hardly smaller.
        with target.open("rb") as plain, gzip.open(folder / name, "wb", compresslevel=3) as stream:
            shutil.copyfileobj(plain, stream, 1 << 20)
        target.unlink()
    else:
        os.replace(target, folder / name)


def _place(image: sitk.Image, scan: Scan, name: str) -> None:
    """Give the image the geometry of the scan; OutputError if no file can hold it."""
    spacing, origin, direction = (np.asarray(v, float) for v in (scan.spacing_mm, scan.origin_mm, scan.direction))
    try:
        image.SetSpacing(spacing[::-1].tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction.ravel().tolist())
        # ITK accepts these, and fails when it writes or reads them.
        usable = bool(np.all(spacing > 0) and np.isfinite([*spacing, *origin]).all()) and is_orthonormal(direction)
    except (RuntimeError, ValueError) as error:
        raise _no_geometry(name) from error
    if not usable:
        raise _no_geometry(name)


def _no_geometry(name: str) -> OutputError:
    return OutputError(
        f"{name} cannot be written: a file cannot hold this geometry; spacing must be above 0 mm, the origin finite "
        "and the direction orthonormal."
    )


def _describe_nifti(scan: Scan, path: Path) -> None:
    """Write modality and unit into the description of a NIfTI header, which ITK leaves empty."""
    if not scan.modality:
        return
    start, length = DESCRIPTION
    unit = f", unit {scan.unit}" if scan.unit else ""
    text = f"modality {scan.modality}{unit}".encode("ascii", "replace")[: length - 1]
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(text.ljust(length, b"\0"))


def _keep_matrices(scan: Scan, path: Path) -> None:
    """Write both matrices and their codes into a NIfTI file as they were in the scan's own file, if it had one."""
    with path.open("r+b") as stream:
        header = stream.read(HEADER_BYTES)
        stream.seek(0)
        stream.write(kept_place(scan, header))


def _verify(scan: Scan, voxels: np.ndarray, path: Path) -> None:
    """Read the file back: ITK does not always notice a full disk."""
    try:
        written = read_volume(path).scan
    except (ScanError, OSError) as error:
        raise _incomplete(path, voxels.nbytes) from error
    same_voxels = written.shape == voxels.shape and all(
        ours.tobytes() == theirs.tobytes() for ours, theirs in zip(voxels, written.voxels, strict=True)
    )
    if not same_voxels:
        raise _incomplete(path, voxels.nbytes)
    if not same_as_written(scan, written):
        raise OutputError(f"{path.name} cannot be written: this format does not hold its geometry; choose .nrrd.")


def _incomplete(path: Path, size: int) -> OutputError:
    free = shutil.disk_usage(path.parent).free
    return OutputError(
        f"{path.name} cannot be written: the file came out incomplete, most likely because no space is left "
        f"on the disk ({size / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free); free some space or choose another folder."
    )


def our_record(path: Path) -> Path | None:
    """Return the record of a restoration beside `path`; None if there is none or another program wrote it."""
    beside = path.with_name(f"{path.name}.json")
    try:
        record = json_object(read_regular(beside))
    except (OSError, ValueError):
        return None
    ours = str(record.get("software", "")).startswith("napari-restore-rwkv")
    return beside if ours else None


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        sync_file(file)


def _move_into_place(folder: Path, path: Path, stale: Path | None, overwrite: bool) -> None:
    """Move the finished files beside `path`, the one with the final name last; undo all moves if one fails.

    `stale` is a file that is removed with the old one.
    """
    finished = sorted(folder.iterdir(), key=lambda file: file.name == path.name)
    raw = next((file.name for file in finished if file.suffix == ".raw"), None)
    if raw and (path.parent / raw).exists() and not path.exists():
        raise OutputError(
            f"{path.name} cannot be written: {raw} already exists and may belong to another scan; choose a new name."
        )
    old = Path(tempfile.mkdtemp(dir=folder))
    with ExitStack() as undo:
        if stale is not None:
            os.replace(stale, old / stale.name)
            undo.callback(os.replace, old / stale.name, stale)
        for file in finished:
            target = path.parent / file.name
            if file.name != path.name and overwrite:
                if target.exists():
                    os.replace(target, old / file.name)
                    undo.callback(os.replace, old / file.name, target)
                else:
                    undo.callback(target.unlink, missing_ok=True)
            put_in_place(file, target, overwrite)
            if not overwrite:
                undo.callback(target.unlink, missing_ok=True)
        undo.pop_all()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.item() if isinstance(value, np.generic) else str(value)


def _remedy(number: int | None) -> str:
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "free some space or choose another folder"
    return "choose another folder or name"
