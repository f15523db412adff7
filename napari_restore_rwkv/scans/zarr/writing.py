"""OME-Zarr 0.5 images, written slab by slab, a whole shard at a time.

A slab is a few whole slices. At every level it fills its own shards exclusively, so slabs can be written in any order,
by any number of processes: levels halve the two axes of a slice and never the one across it.

The OME-Zarr metadata are one small dictionary, built here so that a cluster node does not need a library of models for
it; the tests validate what is written with yaozarrs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...storage.durable import PARTIAL
from ...untrusted import path_inside
from ..scan import AXES, Scan
from .reading import OURS

if TYPE_CHECKING:
    from pathlib import Path

    from zarr.storage import MemoryStore

_CHUNK_SLICES, _CHUNK_SIDE = 4, 256
_SHARD_BYTES = 64 << 20
# A crash can cost a slab, so it is kept short if slices are small.
_SHARD_SLICES = 16
# No further level is made once slices are this small.
_SMALLEST_SIDE = 256
_MOST_LEVELS = 6


@dataclass(frozen=True, slots=True)
class ZarrLayout:
    """How an image is divided into levels, shards and chunks.

    Attributes
    ----------
    shape
        Voxels of level 0 along z, y, x.
    dtype
        Name of the voxel type.
    axis
        Array axis across the slices.
    slab
        Slices in a shard.
    levels
        Number of levels, at least 1.
    """

    shape: tuple[int, int, int]
    dtype: str
    axis: int
    slab: int
    levels: int

    @property
    def slabs(self) -> int:
        """Number of slabs."""
        return math.ceil(self.shape[self.axis] / self.slab)

    def slices(self, slab: int) -> range:
        """Return the indices of the slices of a slab."""
        return range(slab * self.slab, min((slab + 1) * self.slab, self.shape[self.axis]))

    def region(self, slab: int) -> tuple[slice, slice, slice]:
        """Return the index ranges of a slab, in z, y, x order, ends exclusive."""
        slices = self.slices(slab)
        region = [slice(0, size) for size in self.shape]
        region[self.axis] = slice(slices.start, slices.stop)
        return region[0], region[1], region[2]

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """Return the number of voxels of a level along z, y, x."""
        z, y, x = (
            size if at == self.axis else math.ceil(size / self.factor(at, level)) for at, size in enumerate(self.shape)
        )
        return z, y, x

    def factor(self, axis: int, level: int) -> int:
        """Return how many voxels of level 0 make one of this level, along an array axis."""
        return 1 if axis == self.axis else 2**level

    def chunk(self, level: int) -> tuple[int, int, int]:
        """Return the shape of an inner chunk."""
        z, y, x = (
            min(_CHUNK_SLICES, self.slab) if at == self.axis else min(_CHUNK_SIDE, size)
            for at, size in enumerate(self.level_shape(level))
        )
        return z, y, x

    def shard(self, level: int) -> tuple[int, int, int]:
        """Return the shape of a shard: whole slices, padded to whole chunks."""
        chunk = self.chunk(level)
        z, y, x = (
            self.slab if at == self.axis else math.ceil(size / chunk[at]) * chunk[at]
            for at, size in enumerate(self.level_shape(level))
        )
        return z, y, x

    def files(self, slab: int) -> list[str]:
        """Return the names of the shards of a slab, one per level, relative to the image's folder."""
        place = [str(slab) if at == self.axis else "0" for at in range(3)]
        return [f"{level}/c/{'/'.join(place)}" for level in range(self.levels)]


def choose_layout(shape: tuple[int, int, int], dtype: Any, axis: int, *, slab: int | None = None) -> ZarrLayout:
    """Choose the layout of an image: shards of at most 64 MiB and 16 slices, unless one slice is larger.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    dtype
        Voxel type.
    axis
        Array axis across the slices.
    slab
        Slices in a shard; None chooses.
    """
    dtype = np.dtype(dtype)
    in_plane = [size for at, size in enumerate(shape) if at != axis]
    levels = 1
    while levels < _MOST_LEVELS and max(in_plane) / 2 ** (levels - 1) > _SMALLEST_SIDE:
        levels += 1
    if slab is None:
        one = ZarrLayout(shape, dtype.name, axis, 1, levels)
        fitting = max(1, min(_SHARD_SLICES, _SHARD_BYTES // (math.prod(one.shard(0)) * dtype.itemsize)))
        # Chunks are four slices deep, so a deeper slab is a multiple of that.
        slab = fitting if fitting < _CHUNK_SLICES else fitting - fitting % _CHUNK_SLICES
    elif slab > _CHUNK_SLICES:
        slab += -slab % _CHUNK_SLICES
    return ZarrLayout(shape, dtype.name, axis, slab, levels)


def create_image(
    path: Path | MemoryStore, scan: Scan, layout: ZarrLayout, attributes: Mapping[str, Any] | None = None
) -> None:
    """Create an image without voxels.

    Parameters
    ----------
    path
        A folder that does not exist yet, or empty; or a store of zarr.
    scan
        Gives geometry, modality and unit; its voxels are not read.
    attributes
        Further attributes of this program.
    """
    import zarr
    from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

    group = zarr.create_group(path, zarr_format=3, attributes=image_attributes(scan, layout, attributes or {}))
    for level in range(layout.levels):
        group.create_array(
            str(level),
            shape=layout.level_shape(level),
            dtype=layout.dtype,
            chunks=layout.shard(level),
            filters=None,
            compressors=None,
            serializer=ShardingCodec(
                chunk_shape=layout.chunk(level),
                codecs=[BytesCodec(), ZstdCodec(level=1, checksum=True)],
            ),
            dimension_names=AXES,
        )


def image_attributes(scan: Scan, layout: ZarrLayout, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image's group: OME-Zarr 0.5, and this program's for what it has no place for.

    The latter are "spacing_mm" (z, y, x), "origin_mm" (x, y, z), "direction", "modality", "unit", and `more`.
    """
    spacing, origin = np.asarray(scan.spacing_mm, float), np.asarray(scan.origin_mm[::-1], float)
    datasets = []
    for level in range(layout.levels):
        factors = np.array([layout.factor(axis, level) for axis in range(3)], float)
        # The centre of a voxel of a coarse level is between those of the voxels that it averages.
        start = origin + (factors - 1) / 2 * spacing
        transformations = [
            {"type": "scale", "scale": (spacing * factors).tolist()},
            {"type": "translation", "translation": start.tolist()},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in AXES]
    ours = {
        "spacing_mm": spacing.tolist(),
        "origin_mm": [float(value) for value in scan.origin_mm],
        "direction": np.asarray(scan.direction, float).tolist(),
        "modality": scan.modality,
        "unit": scan.unit,
        **more,
    }
    return {
        "ome": {"version": "0.5", "multiscales": [{"name": "scan", "axes": axes, "datasets": datasets}]},
        OURS: plain_json(ours),
    }


def write_slab(path: Path, layout: ZarrLayout, slab: int, voxels: np.ndarray) -> list[Path]:
    """Write a slab at all levels.

    Parameters
    ----------
    path
        From `create_image`.
    layout
        As it was created.
    slab
        Which one, from 0.
    voxels
        Its slices, of the full size in the other two axes.

    Returns
    -------
    list of Path
        The files, one per level.

    Raises
    ------
    UnsafeNameError
        A folder of the image is a link that leads outside it.
    """
    import zarr

    # Folders of an image that came from elsewhere may be links.
    files = [path_inside(path, name) for name in layout.files(slab)]
    for file in files:
        # Zarr would read an old shard before it writes the new one, and fail where that is damaged.
        file.unlink(missing_ok=True)
    # Without this a slab of zeros would leave no file, like one that was never written.
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        chosen = layout.slices(slab)
        for level in range(layout.levels):
            region = [slice(None)] * 3
            region[layout.axis] = slice(chosen.start, chosen.stop)
            array: Any = group[str(level)]
            array[tuple(region)] = voxels
            if level + 1 < layout.levels:
                voxels = _halved(voxels, layout.axis)
    return files


def remove_leftovers(path: Path, layout: ZarrLayout, slabs: range | list[int]) -> int:
    """Remove what killed writers of these slabs left behind, and return the number of files."""
    removed = 0
    for slab in slabs:
        for name in layout.files(slab):
            shard = path / name
            if shard.parent.is_dir():
                for left in shard.parent.glob(f"{shard.name}.*{PARTIAL}"):
                    left.unlink(missing_ok=True)
                    removed += 1
    return removed


def _halved(voxels: np.ndarray, axis: int) -> np.ndarray:
    """Average pairs of voxels along the two axes of a slice; a last one without a partner is kept as it is."""
    dtype = voxels.dtype
    means = voxels.astype(np.float64 if dtype.itemsize > 2 and dtype.kind != "f" else np.promote_types(dtype, "f4"))
    for at in range(3):
        if at == axis:
            continue
        first = [slice(None)] * 3
        second = [slice(None)] * 3
        first[at], second[at] = slice(0, None, 2), slice(1, None, 2)
        halved = means[tuple(first)].copy()
        partners = means[tuple(second)]
        paired = [slice(None)] * 3
        paired[at] = slice(0, partners.shape[at])
        halved[tuple(paired)] = halved[tuple(paired)] / 2 + partners / 2
        means = halved
    return np.rint(means).astype(dtype) if dtype.kind in "iu" else means.astype(dtype)


def plain_json(value: Any) -> Any:
    """Return a value in JSON types: NumPy numbers become numbers, mappings dicts, and everything else strings."""
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
