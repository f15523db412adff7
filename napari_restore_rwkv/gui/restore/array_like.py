"""What napari's layers ask of an array whose values are worked out for what is looked at only."""

from __future__ import annotations

from typing import Any

import numpy as np


class ArrayLike:
    """An array of the shape of another, whose values are those that `__getitem__` of a subclass works out.

    Parameters
    ----------
    base
        An array (Z, Y, X), or something that is indexed like one by numbers and slices; float32.
    """

    def __init__(self, base: Any) -> None:
        self.base = base

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the values, float32."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.base.ndim

    @property
    def size(self) -> int:
        """Number of values."""
        return self.base.size

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: Any) -> np.ndarray:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)
