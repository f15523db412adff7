"""The projection of `projector` and its adjoint as sparse matrices, for many images at once.

A weight is computed once and multiplies the same pixel of all images, which lie next to each other in memory; so do
the images and sinograms that are returned.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # For each row of a matrix its columns, int32, and their weights.
    Entries = tuple[Tensor, Tensor]
    Maker = Callable[[int, tuple[float, ...], torch.dtype], Entries]

# Of the views whose matrix is made at once, which then takes 8 MiB.
_SAMPLES_AT_ONCE = 1 << 18
# Side of an image in pixels; its ten subsets of views have two matrices each, together 140 MB.
_LARGEST_KEPT, _MOST_KEPT = 128, 20
_FEWEST_IMAGES = 8

_making = Lock()


def is_faster(size: int, images: int) -> bool:
    """Whether this module is faster than `projector`: the matrices are kept, or there are enough images for them."""
    return size <= _LARGEST_KEPT or images >= _FEWEST_IMAGES


def project(images: Tensor, angles: Tensor, pixel_mm: float) -> Tensor:
    """Return what `projector.project` returns, to rounding."""
    size = images.shape[-1]
    columns = _columns(images)
    rows = [_product(entries, columns) for _, entries in _blocks(_rays, size, angles.to(images.dtype))]
    return _images(torch.cat(rows) * pixel_mm, (*images.shape[:-2], len(angles), size))


def back_project(sinograms: Tensor, angles: Tensor, pixel_mm: float) -> Tensor:
    """Return what `projector.back_project` returns, to rounding."""
    size = sinograms.shape[-1]
    columns = _columns(sinograms)
    total = columns.new_zeros(size * size, columns.shape[1])
    for first, entries in _blocks(_pixels, size, angles.to(sinograms.dtype)):
        total += _product(entries, columns[first * size :])
    return _images(total * pixel_mm, (*sinograms.shape[:-2], size, size))


@contextmanager
def matrices_freed() -> Iterator[None]:
    """Free the matrices that are kept when what is done with them has ended."""
    try:
        yield
    finally:
        _kept.cache_clear()


def _columns(images: Tensor) -> Tensor:
    """Return images or sinograms as the columns of a matrix, without a copy if this module made them."""
    columns = images.reshape(-1, images.shape[-2] * images.shape[-1]).t()
    # A single column would take longer than two.
    return (columns.expand(-1, 2) if columns.shape[1] == 1 else columns).contiguous()


def _images(columns: Tensor, shape: tuple[int, ...]) -> Tensor:
    return columns.t()[: math.prod(shape[:-2])].reshape(shape)


def _product(entries: Entries, columns: Tensor) -> Tensor:
    where, weights = entries
    return functional.embedding_bag(where, columns, mode="sum", per_sample_weights=weights)


def _blocks(made: Maker, size: int, angles: Tensor) -> Iterator[tuple[int, Entries]]:
    """Yield the matrix of some views after another, each with the number of its first view."""
    at_once = max(1, _SAMPLES_AT_ONCE // size**2)
    for number, part in enumerate(angles.split(at_once)):
        wanted = size, tuple(part.tolist()), part.dtype
        if size <= _LARGEST_KEPT:
            # One thread makes what all of them use.
            with _making:
                entries = _kept(made, *wanted)
        else:
            entries = made(*wanted)
        yield number * at_once, entries


@lru_cache(maxsize=_MOST_KEPT)
def _kept(made: Maker, size: int, angles: tuple[float, ...], dtype: torch.dtype) -> Entries:
    return made(size, angles, dtype)


def _rays(size: int, angles: tuple[float, ...], dtype: torch.dtype) -> Entries:
    """Entries (views * N, 4 N) of the rays: at each step along it, the four pixels of bilinear interpolation."""
    cos, sin, along = _geometry(size, angles, dtype)
    t, s = along[:, None], along
    x, y = (position + (size - 1) / 2 for position in (t * cos - s * sin, t * sin + s * cos))
    left, top = x.floor(), y.floor()
    where, weights = [], []
    for column in (left, left + 1):
        for row in (top, top + 1):
            inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
            where.append(torch.where(inside, row * size + column, 0))
            weights.append(torch.where(inside, _tent(x - column) * _tent(y - row), 0))
    return _entries(where, weights, len(angles) * size)


def _pixels(size: int, angles: tuple[float, ...], dtype: torch.dtype) -> Entries:
    """Entries (N * N, 3 views) of the pixels: in each view the three nearest detectors; no others see it.

    The ray of a detector samples a pixel at three steps at most.
    """
    cos, sin, along = _geometry(size, angles, dtype)
    cos, sin = cos.flatten(), sin.flatten()
    x, y = along.repeat(size)[:, None], along.repeat_interleave(size)[:, None]
    t, s = (position + (size - 1) / 2 for position in (x * cos + y * sin, y * cos - x * sin))
    first = torch.arange(len(angles)) * size
    where, weights = [], []
    for detector in (t.round() + shift for shift in (-1, 0, 1)):
        weight = torch.zeros_like(t)
        for step in (s.round() + shift for shift in (-1, 0, 1)):
            across, ahead = t - detector, s - step
            weight += (
                _tent(across * cos - ahead * sin) * _tent(across * sin + ahead * cos) * ((step >= 0) & (step < size))
            )
        inside = (detector >= 0) & (detector < size)
        where.append(torch.where(inside, first + detector, 0))
        weights.append(torch.where(inside, weight, 0))
    return _entries(where, weights, size * size)


def _geometry(size: int, angles: tuple[float, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosine and sine of each view, (views, 1, 1), and pixel positions from the centre, (N,)."""
    part = torch.tensor(angles, dtype=dtype)[:, None, None]
    return part.cos(), part.sin(), torch.arange(size, dtype=dtype) - (size - 1) / 2


def _tent(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_min_(0)


def _entries(where: list[Tensor], weights: list[Tensor], rows: int) -> Entries:
    return torch.stack(where, dim=-1).int().view(rows, -1), torch.stack(weights, dim=-1).view(rows, -1)
