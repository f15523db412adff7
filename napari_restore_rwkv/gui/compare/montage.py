"""The three orthogonal planes through one voxel, arranged on one sheet.

Planes are shown as in radiology: the patient's right on the left, anterior up in the axial plane and to the left in the
sagittal one, superior up. The scan's direction tells which array axis runs along which of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The longer side of a sheet in pixels: a texture size that every GPU supports.
LARGEST_SIDE = 4096
# The gap between two planes, and the gap that the lines leave around the voxel, as fractions of the longer side.
GAP, FREE = 1 / 80, 1 / 40


class Along(NamedTuple):
    """An array axis, and whether it is shown reversed."""

    axis: int
    backwards: bool


@dataclass(frozen=True, slots=True)
class Plane:
    """One of the three planes: the array axis across it, and the axes shown downwards and to the right."""

    name: str
    across: int
    down: Along
    right: Along


class Spot(NamedTuple):
    """A pixel of a sheet: the number of its plane, and the row and column of the voxel in that plane's image."""

    plane: int
    row: int
    column: int


def planes_of(direction: np.ndarray) -> tuple[Plane, Plane, Plane]:
    """Return the axial, the coronal and the sagittal plane of a scan.

    Parameters
    ----------
    direction
        3 x 3, columns x, y, z of the file in the patient's left, posterior, superior; the nearest planes are returned.
    """
    # Of all ways to pair patient axes with file axes, the one that fits the direction best.
    columns = max(permutations(range(3)), key=lambda chosen: sum(abs(direction[at, chosen[at]]) for at in range(3)))
    left, posterior, superior = (
        Along(2 - column, bool(direction[patient, column] < 0)) for patient, column in enumerate(columns)
    )
    inferior = Along(superior.axis, not superior.backwards)
    return (
        Plane("axial", superior.axis, posterior, left),
        Plane("coronal", posterior.axis, inferior, left),
        Plane("sagittal", left.axis, inferior, posterior),
    )


def read_plane(
    voxels: Any, plane: Plane, index: int, slice_axis: int, go_on: Callable[[], bool] = lambda: True
) -> np.ndarray:
    """Read one plane; if it crosses the slices of lazy voxels, slice by slice, so that no more than one is held.

    Parameters
    ----------
    voxels
        Shape (Z, Y, X), an array or something indexed like one.
    plane, index
        The plane, and its position along the axis across it.
    slice_axis
        Array axis across the slices in which the voxels are stored or computed.
    go_on
        Called before each slice; if it returns False, the rest is left NaN.

    Returns
    -------
    ndarray
        float32, rows and columns along `plane.down` and `plane.right`, neither of them reversed.
    """
    region: list[Any] = [slice(None)] * 3
    region[plane.across] = index
    rest = [axis for axis in range(3) if axis != plane.across]
    if isinstance(voxels, np.ndarray) or plane.across == slice_axis:
        image = np.asarray(voxels[tuple(region)], np.float32)
    else:
        image = np.full([voxels.shape[axis] for axis in rest], np.nan, np.float32)
        lines = np.moveaxis(image, rest.index(slice_axis), 0)
        for number in range(len(lines)):
            if not go_on():
                break
            region[slice_axis] = number
            lines[number] = voxels[tuple(region)]
    return image if rest[0] == plane.down.axis else image.T


class Layout(Enum):
    """How the planes lie on a sheet: one below the other, beside each other, or two stacked right of the first."""

    BELOW = "below"
    BESIDE = "beside"
    STACKED = "stacked"


class Sheet:
    """The positions of the planes on a sheet of square pixels.

    Parameters
    ----------
    planes
        As `planes_of` returns them.
    shape, spacing
        Of the voxels along z, y, x; the spacing in any unit of length.
    layout
        How they are arranged.

    Attributes
    ----------
    shape
        Rows and columns in pixels.
    step
        Side of a pixel: that of the smallest voxel, or more if the sheet would be too large.
    """

    def __init__(self, planes: Sequence[Plane], shape: Sequence[int], spacing: Sequence[float], layout: Layout) -> None:
        self._planes = tuple(planes)
        sides = np.asarray(shape) * np.asarray(spacing)
        extents = np.array([(sides[plane.down.axis], sides[plane.right.axis]) for plane in planes])
        whole = _laid_out(extents, layout, 0.0)[1]
        self.step = float(max(min(spacing), whole.max() / LARGEST_SIDE))
        self._maps = [
            (_voxels_along(plane.down, shape, sides, self.step), _voxels_along(plane.right, shape, sides, self.step))
            for plane in planes
        ]
        sizes = np.array([(len(rows), len(columns)) for rows, columns in self._maps])
        corners, size = _laid_out(sizes, layout, float(max(1, round(GAP * whole.max() / self.step))))
        self._corners = [(int(top), int(left)) for top, left in corners]
        self.shape: tuple[int, int] = (int(size[0]), int(size[1]))

    def draw(self, images: Sequence[np.ndarray], position: Sequence[int], mark: float, width: int) -> np.ndarray:
        """Return a sheet (rows, columns), float32, with crosshairs through a voxel; NaN between the planes.

        Parameters
        ----------
        images
            Of each plane, as `read_plane` returns it.
        position
            The voxel along z, y, x.
        mark, width
            Brightness of the lines, and their width in pixels.
        """
        sheet = np.full(self.shape, np.nan, np.float32)
        free = max(width, round(FREE * max(self.shape)))
        for plane, image, (rows, columns), (top, left) in zip(
            self._planes, images, self._maps, self._corners, strict=True
        ):
            drawn = image[np.ix_(rows, columns)]
            row, column = _middle(rows, position[plane.down.axis]), _middle(columns, position[plane.right.axis])
            for lines, at, crossing in ((drawn, row, column), (drawn.T, column, row)):
                marked = lines[max(at - width // 2, 0) : at - width // 2 + width]
                marked[:, : max(crossing - free, 0)] = mark
                marked[:, crossing + free + 1 :] = mark
            sheet[top : top + len(rows), left : left + len(columns)] = drawn
        return sheet

    def spot(self, row: float, column: float) -> Spot | None:
        """Return the spot at a position of the sheet; None between the planes and outside."""
        at_row, at_column = int(np.floor(row + 0.5)), int(np.floor(column + 0.5))
        for number, ((rows, columns), (top, left)) in enumerate(zip(self._maps, self._corners, strict=True)):
            if 0 <= at_row - top < len(rows) and 0 <= at_column - left < len(columns):
                return Spot(number, int(rows[at_row - top]), int(columns[at_column - left]))
        return None

    def moved(self, position: Sequence[int], spot: Spot) -> tuple[int, int, int]:
        """Return a voxel (z, y, x) moved within the plane of a pixel to that pixel."""
        plane, there = self._planes[spot.plane], list(position)
        there[plane.down.axis], there[plane.right.axis] = spot.row, spot.column
        return there[0], there[1], there[2]


def _laid_out(sizes: np.ndarray, layout: Layout, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper left corner of each plane, all centred on each other, and height and width of the sheet."""
    if layout is Layout.STACKED:
        right, size = _in_line(sizes[1:], 0, gap)
        (first, rest), whole = _in_line(np.array([sizes[0], size]), 1, gap)
        return np.vstack([first, right + rest]), whole
    return _in_line(sizes, 0 if layout is Layout.BELOW else 1, gap)


def _in_line(sizes: np.ndarray, along: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Place rectangles one after the other along an axis, with gaps between them."""
    whole = sizes.max(axis=0).astype(float)
    ends = np.cumsum(sizes[:, along] + gap)
    whole[along] = ends[-1] - gap
    corners = (whole - sizes) // 2
    corners[:, along] = ends - gap - sizes[:, along]
    return corners, whole


def _middle(voxels: np.ndarray, voxel: int) -> int:
    """Return the middle pixel of those that show a voxel, or the nearest position if none does."""
    return int(np.flatnonzero(np.abs(voxels - voxel) == np.abs(voxels - voxel).min()).mean())


def _voxels_along(along: Along, shape: Sequence[int], sides: np.ndarray, step: float) -> np.ndarray:
    """Return which voxel each pixel shows, down or to the right."""
    size = shape[along.axis]
    pixels = max(1, round(float(sides[along.axis]) / step))
    voxels = np.minimum(((np.arange(pixels) + 0.5) * size / pixels).astype(int), size - 1)
    return size - 1 - voxels if along.backwards else voxels
