"""Parallel-beam projection, its adjoint, and filtered back-projection, batched over views in PyTorch.

Images are (Y, X) with square pixels, sinograms (views, detectors) with one detector per pixel; projection and its
adjoint accept leading batch axes. The axis of rotation passes through the centre of both. A view at angle a sees the
coordinate t = x cos a + y sin a.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ct_kernels import Kernel

_VIEWS_AT_ONCE = 16
_FINER = 4
# Side of an image in pixels; 16 views of this size take 2 MiB.
_LARGEST_KEPT_GRID = 128


def view_angles(views: int) -> Tensor:
    """Return angles in radians, evenly spaced over half a turn, shape (views,)."""
    return torch.arange(views) * (math.pi / views)


def project(images: Tensor, angles: Tensor, pixel_mm: float) -> Tensor:
    """Return line integrals of one or more images.

    Parameters
    ----------
    images
        Attenuation per mm, or activity, shape (..., N, N); zero outside.
    angles
        View angles in radians, shape (views,).
    pixel_mm
        Side of a pixel in mm.

    Returns
    -------
    Tensor
        Shape (..., views, N), in the unit of the images times mm.
    """
    size = images.shape[-1]
    stack = images.reshape(1, -1, size, size)
    rows = []
    for grid in _rays(size, angles.to(images.dtype)):
        rotated = functional.grid_sample(stack.expand(len(grid), -1, size, size), grid, align_corners=False)
        rows.append(rotated.sum(dim=2) * pixel_mm)
    sinograms = torch.cat(rows).transpose(0, 1)
    return sinograms.reshape(*images.shape[:-2], len(angles), size)


def back_project(sinograms: Tensor, angles: Tensor, pixel_mm: float) -> Tensor:
    """Return the adjoint of `project`: <project(x), y> = <x, back_project(y)> to rounding.

    Projection is linear, so the adjoint of each of its steps is that step's derivative, run in reverse.

    Parameters
    ----------
    sinograms
        Shape (..., views, N).
    angles, pixel_mm
        As in `project`.

    Returns
    -------
    Tensor
        Shape (..., N, N), in the unit of the sinograms times mm.
    """
    size = sinograms.shape[-1]
    stack = sinograms.reshape(-1, len(angles), size).transpose(0, 1)  # views, images, detectors
    total = torch.zeros(stack.shape[1], size, size, dtype=sinograms.dtype)
    parts = zip(stack.split(_VIEWS_AT_ONCE), _rays(size, angles.to(sinograms.dtype)), strict=True)
    for part, grid in parts:
        rotated = (part * pixel_mm).unsqueeze(2).expand(-1, -1, size, -1)
        # Bilinear, zero outside; neither the image itself nor the derivative with respect to the grid matters.
        image = total.expand(len(part), -1, size, size)
        adjoint, _ = torch.ops.aten.grid_sampler_2d_backward(rotated, image, grid, 0, 0, False, [True, False])
        total = total + adjoint.sum(dim=0)
    return total.view(*sinograms.shape[:-2], size, size)


def filtered_back_projection(
    sinogram: Tensor, angles: Tensor, pixel_mm: float, window: slice = slice(None), kernel: Kernel | None = None
) -> Tensor:
    """Reconstruct an image with an apodised ramp filter.

    Parameters
    ----------
    sinogram
        Line integrals, shape (views, N).
    angles
        View angles in radians, shape (views,).
    pixel_mm
        Side of a pixel and of a detector in mm.
    window
        Rows and columns to reconstruct, the same for both; by default all.
    kernel
        Apodisation of the ramp. None takes a Hann window, and interpolates between the detectors; with a kernel they
        are upsampled by four first, so that interpolation hardly attenuates the highest frequencies.

    Returns
    -------
    Tensor
        Attenuation per mm, shape (N, N) or that of the window; only the inscribed circle is seen by all views.
    """
    views, size = sinogram.shape
    padded = 2 ** math.ceil(math.log2(2 * size))
    frequency = torch.fft.rfftfreq(padded)  # cycles per detector
    if kernel is None:
        finer, apodisation = 1, 0.5 + 0.5 * torch.cos(2 * math.pi * frequency)
    else:
        finer, apodisation = _FINER, torch.from_numpy(kernel.apodisation(frequency / pixel_mm)).float()
    spectrum = torch.fft.rfft(sinogram, n=padded) * (_ramp(padded) * apodisation)
    filtered = torch.fft.irfft(spectrum, n=finer * padded)[:, : finer * size] * finer

    along = (torch.arange(size) - (size - 1) / 2)[window]
    image = torch.zeros(len(along), len(along))
    for row, angle in zip(filtered, angles, strict=True):
        t = finer * (along[None, :] * angle.cos() + along[:, None] * angle.sin() + (size - 1) / 2)
        lower = t.floor().clamp(0, finer * size - 2)
        fraction = (t - lower).clamp(0, 1)
        index = lower.long()
        image += torch.lerp(row[index], row[index + 1], fraction)
    return image * (math.pi / views / pixel_mm)


def _rays(size: int, angles: Tensor) -> Iterator[Tensor]:
    """Yield where the rays of some views cross the image, as `grid_sample` takes it: (views, N, N, 2), from -1 to 1."""
    for part in angles.split(_VIEWS_AT_ONCE):
        # Small ones are cached, since every slice uses them; large ones would fill the memory.
        made = _kept_grid if size <= _LARGEST_KEPT_GRID else _grid
        yield made(size, tuple(part.tolist()), part.dtype)


def _grid(size: int, angles: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    along = torch.linspace(-1, 1, size, dtype=dtype) * (size - 1) / size
    s, t = torch.meshgrid(along, along, indexing="ij")  # s runs along the ray, t along the detector
    part = torch.tensor(angles, dtype=dtype)
    cos, sin = part.cos()[:, None, None], part.sin()[:, None, None]
    return torch.stack((t * cos - s * sin, t * sin + s * cos), dim=-1)


_kept_grid = lru_cache(maxsize=32)(_grid)


def _ramp(length: int) -> Tensor:
    """Frequency response of the band-limited ramp, from its samples in space, which keeps the mean correct."""
    n = torch.arange(length)
    n = torch.minimum(n, length - n)
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * n.clamp_min(1)) ** 2, torch.zeros(()))
    kernel[0] = 0.25
    return torch.fft.rfft(kernel).real
