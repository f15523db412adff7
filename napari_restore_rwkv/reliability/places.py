"""Places on a slice: where a map is highest, and values between places where they are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_APART = 12


def highest_places(values: np.ndarray, most: int, least: float) -> list[tuple[int, int]]:
    """Return where a map (Y, X) is highest, 12 pixels apart: rows and columns of at most `most`, from `least` up."""
    left = values.copy()
    found: list[tuple[int, int]] = []
    while len(found) < most:
        row, column = (int(at) for at in np.unravel_index(left.argmax(), left.shape))
        if left[row, column] < least:
            break
        found.append((row, column))
        left[max(row - _APART, 0) : row + _APART + 1, max(column - _APART, 0) : column + _APART + 1] = 0
    return found


def interpolated(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Interpolate values (rows, columns) over a whole slice, along the columns and then along the rows."""
    across = np.stack([np.interp(np.arange(shape[1]), columns, line) for line in values])
    return np.stack([np.interp(np.arange(shape[0]), rows, line) for line in across.T], axis=1)
