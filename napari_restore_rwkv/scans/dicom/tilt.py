"""Slices from a tilted gantry: each is shifted sideways relative to the one before, and can be shifted back.

Only the in-plane shift of the slices is undone, by linear interpolation between pixels, as in dcm2niix.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image import SeriesImage

# A gantry tilt of half a degree moves the slices sideways by this fraction of the length of the stack.
_DRIFT_TOLERANCE = 0.01
# Part of the largest shift by which the others may differ from those of a tilt.
_STEADY = 0.1
# Tolerance within which a shift counts as whole pixels.
_ROUNDING = 1e-6


def is_tilted(stack: Sequence[SeriesImage]) -> bool:
    """Whether sorted slices are not exactly above each other."""
    heights, sideways = _shifts(stack)
    return float(sideways.max()) > max(_DRIFT_TOLERANCE * heights[-1], 0.5 * min(stack[0].pixel_mm))


def tilt_words(stack: Sequence[SeriesImage]) -> str:
    """Say how far slices are shifted, as in "by 20.0 mm, as by a gantry tilt of 11.3 degrees"."""
    heights, sideways = _shifts(stack)
    tilted = heights / heights[-1] * sideways[-1]
    if np.abs(sideways - tilted).max() > _STEADY * sideways.max():
        return f"by up to {sideways.max():.1f} mm, but not evenly"
    degrees = math.degrees(math.atan2(sideways[-1], heights[-1]))
    return f"by {sideways[-1]:.1f} mm, as by a gantry tilt of {degrees:.1f} degrees"


def straightened(stack: Sequence[SeriesImage], voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift slices so that they are exactly above each other.

    Parameters
    ----------
    stack
        The slices sorted by position.
    voxels
        Of them, shape (Z, Y, X).

    Returns
    -------
    voxels
        As large as all shifted slices together, in the same type; the first slice is moved by whole pixels. Voxels that
        are wholly or partly outside a slice get the lowest value of all.
    corner_mm
        Centre of the first voxel in the patient, shape (3,).
    """
    first = stack[0]
    axes = first.orientation[::-1] / np.array(first.pixel_mm)[:, None]
    # Along columns and rows, in pixels, relative to the first slice.
    shifts = np.array([axes @ (image.corner_mm - first.corner_mm) for image in stack])
    before = np.ceil(np.maximum(0, -shifts.min(axis=0)) - _ROUNDING).astype(int)
    behind = np.ceil(np.maximum(0, shifts.max(axis=0)) - _ROUNDING).astype(int)
    height, width = voxels.shape[1:] + before + behind
    lowest = voxels.min()
    result = np.full((len(stack), height, width), lowest, voxels.dtype)
    for index, (values, shift) in enumerate(zip(voxels, shifts + before, strict=True)):
        whole = np.floor(shift + _ROUNDING).astype(int)
        # NaN marks voxels partly outside the slice.
        canvas = np.full((height + 1, width + 1), np.nan)
        canvas[whole[0] : whole[0] + values.shape[0], whole[1] : whole[1] + values.shape[1]] = values
        for axis, part in enumerate(shift - whole):
            if part > _ROUNDING:
                canvas = (1 - part) * canvas + part * np.roll(canvas, 1, axis)
        moved = np.nan_to_num(canvas[:height, :width], nan=lowest)
        result[index] = np.rint(moved) if voxels.dtype.kind in "iu" else moved
    corner = first.corner_mm - before * first.pixel_mm @ first.orientation[::-1]
    return result, corner


def _shifts(stack: Sequence[SeriesImage]) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each slice is from the first along the normal, and how far sideways, in mm."""
    first, normal = stack[0], stack[0].normal
    moved = np.array([image.corner_mm - first.corner_mm for image in stack])
    heights = moved @ normal
    return heights, np.linalg.norm(moved - np.outer(heights, normal), axis=1)
