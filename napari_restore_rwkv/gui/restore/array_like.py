"""The part of the array interface that napari's layers use, for arrays that compute only the displayed values."""

from __future__ import annotations

from typing import Any

import numpy as np


class ArrayLike:
    """An array with the shape of another one; a subclass computes its values in `__getitem__`.

    Parameters
    ----------
    base
        An array (Z, Y, X), or an object that can be indexed like one with integers and slices; float32.
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
