"""Zarr folders as scans whose voxels are only read when needed.

OME-Zarr 0.4 and 0.5 give axes, units, scale and translation; a plain array, or a group with one array, gives its shape.
What they cannot express (direction, modality, unit of the values) is in the attributes of this program's own results.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ScanError
from ...tasks import MODALITIES
from ...untrusted import json_object, read_regular
from .. import bounds
from ..geometry import check_geometry
from ..integrity import broken
from ..lazy import LazyVoxels, fingerprint
from ..outside import check_inside
from ..scan import Scan
from ..volume.files import SeveralFramesError
from .chunks import DamagedChunk
from .digests import written_digests
from .place import SPACE, Place, ome_place, plain_place, spacing_and_origin

if TYPE_CHECKING:
    from pathlib import Path

    from ..lazy import Box
    from .guard import GuardedStore

# The key of this program's attributes in the group.
OURS = "restore_rwkv"
_METADATA = ("zarr.json", ".zgroup", ".zarray")
# What bioformats2raw writes at the top of its folders of images, which are named by numbers.
_COLLECTION = "bioformats2raw.layout"
_NUMBER = re.compile("[0-9]{1,9}")
_NAMED = 10
# Arrays with more files are not searched for missing ones.
_MOST_KEYS = 200_000
# If more files than the first number are expected, the second number times as many as exist is too many.
_FEW_FILES, _LARGEST_SHARE = 2_000, 20
_MOST_VOXELS = 1 << 40


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group, of version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def images_in(path: Path, allow_outside: bool = False) -> list[Path]:
    """Return the images of a collection written by bioformats2raw, by number; none if this is not such a folder.

    Raises
    ------
    ScanError
        An image is a symbolic link that leaves the folder, and `allow_outside` is not set.
    """
    for name in ("zarr.json", ".zattrs"):
        try:
            found = json_object(read_regular(path / name, bounds.LARGEST_METADATA))
            attributes = found.get("attributes", {}) if name == "zarr.json" else found
            collection = _is_collection(attributes)
        except (OSError, ValueError, AttributeError, TypeError):
            continue
        if collection:
            numbered = [child for child in path.iterdir() if _NUMBER.fullmatch(child.name) and is_zarr(child)]
            for child in [] if allow_outside else numbered:
                check_inside(path, path, child)
            return sorted(numbered, key=lambda child: int(child.name))
    return []


def _only_image(path: Path, allow_outside: bool) -> Path:
    images = images_in(path, allow_outside)
    if len(images) == 1:
        # A link to a parent folder would make the collection endless.
        if images_in(images[0], allow_outside):
            raise ScanError(f"{path.name} is a collection of collections of images; give one of the images in it.")
        return images[0]
    if not images:
        raise ScanError(f"{path.name} is a collection without any images; convert it again.")
    names = ", ".join(child.name for child in images[:_NAMED])
    raise ScanError(
        f"{path.name} contains {len(images)} images ({names}{', ...' if len(images) > _NAMED else ''}); "
        f"give one of them, such as {path.name}/{images[0].name}."
    )


def read_zarr(
    path: Path, *, time_index: int | None = None, channel: int | None = None, allow_outside: bool = False
) -> Scan:
    """Read the metadata of a zarr folder; its voxels are not read.

    Parameters
    ----------
    path
        OME-Zarr 0.4 or 0.5 image, a group with one array, or an array, of zarr 2 or 3.
    time_index, channel
        Which of several time points and channels, from 0.
    allow_outside
        Whether symbolic links may leave the folder.

    Returns
    -------
    Scan
        Level 0. A missing axis counts as one voxel of 1 mm. Metadata: "restoration" if this is a result of this
        program, and "notes", sentences for the user, if there are any.

    Raises
    ------
    SeveralFramesError
        There are several time points or channels and none was chosen.
    ScanError
        The folder is damaged, unfinished, or contains something other than one image with real values.
    """
    import zarr

    from .guard import GuardedStore, guard

    store = GuardedStore(path, allow_outside=allow_outside)
    try:
        node = zarr.open(store, mode="r")
        attributes: dict[str, Any] = dict(node.attrs)
    except ScanError:
        raise
    except Exception as error:
        raise broken(path, "its metadata are missing or damaged") from error
    if _is_collection(attributes):
        only = _only_image(path, allow_outside)
        return read_zarr(only, time_index=time_index, channel=channel, allow_outside=allow_outside)
    ours = attributes.get(OURS, {})
    if isinstance(ours, Mapping) and ours.get("complete") is False:
        raise ScanError(
            f"{path.name} is an unfinished restoration; finish it first with the same restore command and --resume."
        )
    place = ome_place(path, attributes) if isinstance(node, zarr.Group) else None
    array = node if isinstance(node, zarr.Array) else _array_of(path, node, place)
    if place is None:
        place = plain_place(path, array)
    if len(set(place.axes)) != len(place.axes):
        raise broken(path, f"it names an axis twice ({', '.join(place.axes)[:60]})")
    if len(place.axes) != array.ndim:
        raise broken(path, f"it names {len(place.axes)} axes, but its array has {array.ndim} dimensions")
    voxels = _lazy(path, array, place, time_index, channel)
    guard(path, array)
    steps, origin = spacing_and_origin(path, place)
    notes = _look_for_chunks(path, array, store, bool(ours))
    metadata = {"notes": list(notes)} if notes else {}
    scan = Scan(voxels, spacing_mm=steps, origin_mm=(origin[2], origin[1], origin[0]), metadata=metadata)
    return _with_ours(path, scan, ours) if ours else scan


def _is_collection(attributes: Mapping[str, Any]) -> bool:
    """Whether these are the attributes of a folder of images."""
    ome = attributes.get("ome", attributes)
    return isinstance(ome, Mapping) and _COLLECTION in ome


def _look_for_chunks(path: Path, array: Any, store: GuardedStore, ours: bool) -> tuple[str, ...]:
    """Record which files exist, so that one lost later is noticed; returns notes for the user."""
    from .guard import files_of, keys_of

    if ours:
        store.known.digests = written_digests(path)
    most = files_of(array)
    if most > _FEW_FILES and most > _LARGEST_SHARE * fingerprint(path)["files"]:
        raise broken(path, f"its metadata describe {most} files of voxels, but almost none exist")
    if most > _MOST_KEYS:
        return ()
    keys = keys_of(array)
    present = frozenset(key for key in keys if (path / key).exists())
    store.known.present = present
    absent = len(keys) - len(present)
    if absent and ours:
        raise ScanError(
            f"{path.name} has lost {absent} of its {len(keys)} files of voxels; the same restore command with --resume "
            "restores them again."
        )
    if not absent:
        return ()
    # The format allows it: chunks that were never written have this value.
    return (
        f"{path.name} has no file for {absent} of its {len(keys)} chunks, which are read as {array.fill_value}; "
        "that is correct if they were never written, and wrong if they were lost.",
    )


def _array_of(path: Path, group: Any, place: Place | None) -> Any:
    import zarr

    if place is not None:
        try:
            array = group[place.path]
        except Exception as error:
            raise broken(path, f"its array {place.path} is missing or damaged") from error
        if not isinstance(array, zarr.Array):
            raise broken(path, f"{place.path} is not an array")
        return array
    arrays = [name for name, _ in group.arrays()]
    if len(arrays) != 1:
        found = f"contains {len(arrays)} arrays ({', '.join(sorted(arrays)[:5])})" if arrays else "contains no array"
        raise ScanError(f"{path.name} {found}; give the folder of one array, or an OME-Zarr image.")
    return group[arrays[0]]


def _lazy(path: Path, array: Any, place: Place, time_index: int | None, channel: int | None) -> LazyVoxels:
    """Return (Z, Y, X) voxels of an array with its axes in any order, after choosing time and channels."""
    if array.dtype.kind not in "biuf":
        raise ScanError(f"{path.name} contains {array.dtype} values; give an array of real numbers.")
    if 0 in array.shape:
        raise ScanError(f"{path.name} is empty: its shape is {tuple(array.shape)}.")
    if math.prod(array.shape) > _MOST_VOXELS:
        raise broken(path, f"its shape is {tuple(array.shape)}, more than any scan has")
    # Any other axis is treated like a channel, whatever its name.
    fixed = {
        at: _chosen(path, name, size, time_index if name == "t" else channel)
        for at, (name, size) in enumerate(zip(place.axes, array.shape, strict=True))
        if name not in SPACE
    }
    if not {"y", "x"} <= set(place.axes):
        raise ScanError(f"{path.name} has the axes {', '.join(place.axes)}; an image needs y and x at least.")
    # For each of z, y, x its position in the array, None if missing.
    where = [place.axes.index(name) if name in place.axes else None for name in SPACE]
    present = [at for at in where if at is not None]
    order = [sorted(present).index(at) for at in present]

    def read(box: Box) -> np.ndarray:
        index: list[Any] = [fixed.get(at) for at in range(array.ndim)]
        for at, part in zip(where, box, strict=True):
            if at is not None:
                index[at] = part
        nbytes = math.prod(part.stop - part.start for part in box) * dtype.itemsize
        bounds.check_memory(path.name, nbytes, nbytes)
        try:
            block = np.asarray(array[tuple(index)]).astype(dtype, copy=False)
        except ScanError as error:
            if not isinstance(error, DamagedChunk):
                raise
            raise broken(path, f"voxels of {_words(box)} are damaged or missing ({error})") from error
        except Exception as error:
            raise broken(path, f"voxels of {_words(box)} are damaged or missing ({_first_line(error)})") from error
        block = block.transpose(order)
        return block if len(present) == 3 else block[np.newaxis]

    dtype = array.dtype.newbyteorder("=")
    shape = tuple(1 if at is None else array.shape[at] for at in where)
    return LazyVoxels(shape, dtype, read, source=path)


def _chosen(path: Path, axis: str, size: int, index: int | None) -> int:
    what, option = ("time points", "time index") if axis == "t" else ("channels", "channel")
    what = what if axis in {"t", "c"} else f"values along {axis}"
    if index is None:
        if size == 1:
            return 0
        raise SeveralFramesError(
            f"{path.name} contains {size} {what}; choose one by its {option}, from 0 to {size - 1}.",
            [f"{'time' if axis == 't' else 'channel' if axis == 'c' else axis} {number}" for number in range(size)],
            option.replace(" ", "_"),
        )
    if not 0 <= index < size:
        raise ScanError(
            f"{path.name} contains {size} {what}, numbered from 0 to {size - 1}; there is no number {index}."
        )
    return index


def _with_ours(path: Path, scan: Scan, ours: Mapping[str, Any]) -> Scan:
    """Take from this program's attributes what OME-Zarr has no place for."""
    try:
        direction = np.asarray(ours["direction"], float).reshape(3, 3)
        z, y, x = (float(value) for value in ours["spacing_mm"])
        origin_x, origin_y, origin_z = (float(value) for value in ours["origin_mm"])
        record, modality = ours.get("restoration"), ours.get("modality")
        if not isinstance(record, Mapping | None) or modality not in (None, *MODALITIES):
            raise ValueError("of another kind")
        placed = scan.with_voxels(
            scan.voxels,
            spacing_mm=(z, y, x),
            origin_mm=(origin_x, origin_y, origin_z),
            direction=direction,
            modality=modality,
            unit=str(ours.get("unit", "")),
            metadata={**scan.metadata, **({"restoration": record} if record else {})},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise broken(path, f"its attributes {OURS} are damaged") from error
    check_geometry(path, placed)
    return placed


def _words(box: Box) -> str:
    return ", ".join(f"{name} {part.start} to {part.stop - 1}" for name, part in zip(SPACE, box, strict=True))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
