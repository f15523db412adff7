"""Slices in overlapping tiles, on request: less memory, but an approximate result.

The network attends over its whole input, so a tile knows nothing of the rest of its slice. Where tiles overlap, the
weight of one falls as that of its neighbour rises, along a ramp. At the border of the slice there is no neighbour and
no ramp: the weights of all tiles add up to 1 at every pixel, and a constant stays the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Stages = Callable[[Tensor], Iterator[Tensor]]

EXACT_MODE = "whole slices"
_SMALLEST = 64
_USUAL_SHARE = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """How slices are cut.

    Attributes
    ----------
    size
        Rows and columns of a tile in pixels, at least 64; smaller slices are not cut along that side.
    overlap
        Minimum number of pixels that neighbours share, up to half of the size; None takes an eighth.

    Raises
    ------
    ScanError
        If a value is out of range.
    """

    size: int
    overlap: int | None = None

    def __post_init__(self) -> None:
        if self.size < _SMALLEST:
            raise ScanError(f"A tile must have at least {_SMALLEST} pixels along a side; got {self.size}.")
        if self.overlap is None:
            object.__setattr__(self, "overlap", self.size // _USUAL_SHARE)
        if not 0 <= self.shared <= self.size // 2:
            raise ScanError(
                f"Tiles of {self.size} pixels must overlap by 0 to {self.size // 2} pixels; got {self.overlap}."
            )

    @property
    def shared(self) -> int:
        """The overlap as a number."""
        return self.overlap or 0

    @property
    def mode(self) -> str:
        """How results from such tiles are described."""
        return f"approximate tiles of {self.size} x {self.size}, overlap {self.shared}"

    def cuts(self, height: int, width: int) -> bool:
        """Whether a slice of this size has more than one tile."""
        return max(height, width) > self.size

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of the tiles of a slice, which are all of one size."""
        return min(self.size, height), min(self.size, width)


def tiling_record(tile: Tile | None, height: int, width: int) -> dict[str, Any]:
    """Return how slices of this size are restored: "mode" in words, and "tile" as `Tile` takes it if they are tiled."""
    if tile is None or not tile.cuts(height, width):
        return {"mode": EXACT_MODE}
    return {"mode": tile.mode, "tile": {"size": tile.size, "overlap": tile.overlap}}


def in_tiles(images: Tensor, tile: Tile, stages: Stages) -> Iterator[Tensor]:
    """Run a network over the tiles of images, yielding each of its results, and last the assembled images.

    Parameters
    ----------
    images
        Shape (B, C, Y, X), the first channel the image itself.
    stages
        Runs the network on images of this form; it yields the restored images last, (B, 1, Y, X).
    """
    height, width = images.shape[2:]
    size_y, size_x = tile.fitted(height, width)
    rows, columns = (_weights(length, tile) for length in (height, width))
    restored = torch.zeros_like(images[:, :1])
    for (top, along_y), (left, along_x) in product(rows, columns):
        window = (..., slice(top, top + size_y), slice(left, left + size_x))
        for result in stages(images[window].contiguous()):
            last = result
            yield result
        weight = torch.from_numpy(np.outer(along_y, along_x)).to(images)
        restored[window] += weight * last.to(images)
    yield restored


def _weights(length: int, tile: Tile) -> list[tuple[int, np.ndarray]]:
    """Return where each tile starts along an axis, and its weights there; those of all tiles add up to 1."""
    size = min(tile.size, length)
    count = math.ceil((length - tile.shared) / (size - tile.shared)) if length > size else 1
    starts = np.linspace(0, length - size, count).round().astype(int).tolist()
    weights = np.zeros((count, length))
    for at, start in enumerate(starts):
        ramp = np.ones(size)
        if at > 0:
            shared = starts[at - 1] + size - start
            ramp[:shared] *= (np.arange(shared) + 0.5) / shared
        if at + 1 < count:
            shared = start + size - starts[at + 1]
            ramp[size - shared :] *= (np.arange(shared)[::-1] + 0.5) / shared
        weights[at, start : start + size] = ramp
    weights /= weights.sum(axis=0)
    return [(start, weights[at, start : start + size].astype(np.float32)) for at, start in enumerate(starts)]
