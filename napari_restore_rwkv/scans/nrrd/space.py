"""The axes of a NRRD file: which of them are spatial, and the position of its voxels in the patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ScanError
from ..geometry import bad_geometry
from ..units_of_length import MILLIMETERS, millimeters
from ..volume.axes import placed
from ..volume.text_header import check_count, lengths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..scan import Scan

# Signs that convert the axes of a space to left, posterior, superior; scanner axes are taken as they are.
_LPS = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "scanner-xyz": (1, 1, 1),
    "3d-right-handed": (1, 1, 1),
    "3d-left-handed": (1, 1, 1),
}
_WITH_TIME = {"rast": "ras", "last": "las", "lpst": "lps"}
_VECTOR = re.compile(r"\(([^()]*)\)|none")
_QUOTED = re.compile(r'"([^"]*)"')
# What writers put if they do not know the unit.
_NO_UNIT = {"", "none", "???", "unknown", "na", "n/a"}


@dataclass(frozen=True, slots=True)
class Space:
    """The space of a NRRD file.

    Attributes
    ----------
    dimension
        Number of coordinates; the fourth is time.
    vectors
        For each axis of the file its step in mm, of shape (3,) in the order left, posterior, superior; None for an axis
        that is not spatial. None altogether if the file has no vectors.
    origin
        Centre of the first voxel, in the same coordinates.
    """

    dimension: int
    vectors: tuple[np.ndarray | None, ...] | None
    origin: np.ndarray


def space_of(path: Path, fields: Mapping[str, str], dimensions: int) -> Space:
    """Read the fields about space; ScanError if they are damaged."""
    name = fields.get("space", "").lower()
    plain = _WITH_TIME.get(name, name.removesuffix("-time"))
    if name and plain not in _LPS:
        raise bad_geometry(path, f"its space is {name[:40]}, which the format does not define")
    size = 3 + (plain != name) if name else _size(path, fields)
    signs = np.asarray(_LPS.get(plain, (1, 1, 1)), float)
    factors = _factors(path, fields.get("spaceunits", ""), size)
    origin = np.zeros(3)
    if "spaceorigin" in fields:
        [given] = _vectors(path, "space origin", fields["spaceorigin"], 1, size)
        if given is not None:
            origin[: min(size, 3)] = given[:3]
    if "spacedirections" not in fields:
        if name and "spacings" in fields:
            raise bad_geometry(path, "it names a space and gives spacings without directions")
        return Space(size, None, origin * factors * signs)
    vectors = []
    for given in _vectors(path, "space direction", fields["spacedirections"], dimensions, size):
        # In a space with time, this axis runs along time only.
        if given is not None and not any(given) and size < 4:
            raise bad_geometry(path, f"its space direction is {','.join(f'{value:g}' for value in given)}")
        vector = np.zeros(3)
        if given is not None:
            vector[: min(size, 3)] = given[:3]
        vectors.append(vector * factors * signs if vector.any() else None)
    return Space(size, tuple(vectors), origin * factors * signs)


def in_space(path: Path, space: Space, spatial: Sequence[int], voxels: Any) -> Scan:
    """Return the scan of a file with vectors; `spatial` are the two or three axes that have one."""
    assert space.vectors is not None
    steps, direction = np.ones(3), np.eye(3)
    for at, axis in enumerate(spatial):
        vector = space.vectors[axis]
        assert vector is not None
        steps[at] = float(np.linalg.norm(vector))
        direction[:, at] = vector / steps[at]
    if len(spatial) == 2:
        direction[:, 2] = np.cross(direction[:, 0], direction[:, 1])
    return placed(path, voxels, direction, steps, space.origin)


def by_spacings(
    path: Path, fields: Mapping[str, str], sizes: Sequence[int], spatial: Sequence[int], voxels: Any
) -> Scan:
    """Return the scan of a file that gives at most the spacings of its axes."""
    steps, origin = np.ones(3), np.zeros(3)
    units = _QUOTED.findall(fields.get("units", ""))
    middle = fields.get("centers", "").split()
    known = "axismins" in fields
    for at, axis in enumerate(spatial):
        factor = _factor(path, units[axis]) if axis < len(units) else 1.0
        spacing = _one(path, "voxel size", fields.get("spacings", ""), axis, len(sizes), nonzero=True)
        start = _one(path, "axis mins", fields.get("axismins", ""), axis, len(sizes)) if known else 0.0
        steps[at] = spacing * factor
        # A voxel fills its cell unless the file says that it is at a node of the grid.
        on_node = middle[axis : axis + 1] == ["node"]
        origin[at] = (start + (0.0 if on_node or not known else spacing / 2)) * factor
    return placed(path, voxels, np.eye(3), steps, origin)


def _one(path: Path, what: str, text: str, axis: int, count: int, *, nonzero: bool = False) -> float:
    """Return the number of one axis; 1 if the field is missing."""
    words = text.split()
    if not words:
        return 1.0
    check_count(path, what, words, count)
    return lengths(path, what, words[axis], 1, nonzero=nonzero)[0]


def _size(path: Path, fields: Mapping[str, str]) -> int:
    text = fields.get("spacedimension", "3")
    if text not in {"2", "3", "4"}:
        raise bad_geometry(path, f"its space dimension is {text[:20]}")
    return int(text)


def _vectors(path: Path, what: str, text: str, count: int, size: int) -> list[list[float] | None]:
    """Return vectors of `size` numbers, None for each that is "none"; those of a time axis may be anything."""
    found = list(_VECTOR.finditer(text))
    if _VECTOR.sub("", text).strip() or len(found) != count:
        raise bad_geometry(path, f"its {what} is {text[:60]}")
    return [
        None if match[1] is None else lengths(path, what, match[1].replace(",", " "), size, used=3) for match in found
    ]


def _factors(path: Path, text: str, size: int) -> np.ndarray:
    """Return mm per unit of the first three coordinates."""
    units = _QUOTED.findall(text) or text.split()
    factors = np.ones(3)
    if units and len(units) != size:
        raise bad_geometry(path, f"it has {len(units)} space units, and its space has {size} dimensions")
    for at, unit in enumerate(units[:3]):
        factors[at] = _factor(path, unit)
    return factors


def _factor(path: Path, unit: str) -> float:
    if unit.strip().lower() in _NO_UNIT:
        return 1.0
    factor = millimeters(unit)
    if factor is None:
        raise ScanError(
            f"{path.name} gives lengths in {unit[:20]}, an unknown unit; use one of {', '.join(MILLIMETERS)}."
        )
    return factor
