"""TIFF stacks: slices page by page, in the order and with the size that ImageJ, OME or tifffile wrote into the file.

A TIFF file never states the position of a scan in the patient; the user is told so whenever one is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import bounds
from ..geometry import check_geometry, check_scale
from ..scan import Scan
from .pages import Pages, in_one_block, pages_of, read_page
from .text import Stack, imagej_images, stack_of

if TYPE_CHECKING:
    from pathlib import Path

    from ..lazy import Box

TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class TiffVolume:
    """A TIFF file as its tags describe it.

    Attributes
    ----------
    path
        The file.
    pages
        Where its pixels are.
    order
        The page of each frame and slice, shape (frames, Z).
    stack
        What its description says.
    scan
        Geometry and notes; its voxels have the shape (Z, Y, X) and the type of one frame, and no values.
    """

    path: Path
    pages: Pages
    order: np.ndarray
    stack: Stack
    scan: Scan

    @property
    def frames(self) -> int:
        """Number of three-dimensional frames, at least 1."""
        return len(self.order)


def is_tiff(path: Path) -> bool:
    """Whether the name of a file is that of a TIFF file."""
    return path.suffix.lower() in TIFF_SUFFIXES


def tiff_volume(path: Path) -> TiffVolume:
    """Read the structure of a TIFF file, but no pixels.

    Raises
    ------
    ScanError
        The file is damaged or cut off, or is not a stack of slices with one real value per pixel.
    """
    pages = pages_of(path)
    images = imagej_images(path, pages.description)
    if images > 1 == len(pages.pages):
        pages = in_one_block(path, pages, images)
    page_bytes = pages.form.size[0] * pages.form.size[1] * pages.form.dtype.itemsize
    bounds.check_memory(path.name, page_bytes, sum(pages.pages[0].lengths))
    stack = stack_of(path, pages)
    order = np.arange(len(pages.pages)).reshape(stack.sizes)
    along = stack.axes.index("Z")
    order = np.moveaxis(order, along, -1).reshape(-1, stack.sizes[along])
    check_scale(path, stack.slope, stack.intercept)
    voxels = np.broadcast_to(np.zeros((), _dtype(pages, stack)), (order.shape[1], *pages.form.size))
    scan = Scan(voxels, spacing_mm=stack.spacing_mm or (1.0, 1.0, 1.0), metadata={"notes": [_note(stack)]})
    check_geometry(path, scan)
    return TiffVolume(path, pages, order, stack, scan)


def read_tiff(volume: TiffVolume, frame: int, box: Box) -> np.ndarray:
    """Read a box of a frame; the pages that it touches are unpacked as a whole."""
    z, y, x = box
    block = np.empty((z.stop - z.start, y.stop - y.start, x.stop - x.start), volume.scan.voxels.dtype)
    with volume.path.open("rb") as stream:
        for at, page in enumerate(volume.order[frame, z]):
            stored = read_page(volume.path, stream, volume.pages.form, volume.pages.pages[page])
            block[at] = _scaled(stored[y, x], volume)
    return block


def read_tiff_frame(volume: TiffVolume, frame: int) -> np.ndarray:
    """Read a frame; ScanError if it is damaged, or does not fit into memory."""
    shape = volume.scan.shape
    kept = [volume.pages.pages[page] for page in volume.order[frame]]
    bounds.check_memory(volume.path.name, volume.scan.voxels.nbytes, sum(sum(page.lengths) for page in kept))
    depth, height, width = shape
    return read_tiff(volume, frame, (slice(0, depth), slice(0, height), slice(0, width)))


def _dtype(pages: Pages, stack: Stack) -> np.dtype:
    """Return the type of the values: int16 for ImageJ's signed numbers, which it stores as unsigned ones."""
    stored = pages.form.dtype.newbyteorder("=")
    if stored == np.uint16 and (stack.slope, stack.intercept) == (1.0, -32768.0):
        return np.dtype(np.int16)
    if stored.kind == "f" or (stack.slope, stack.intercept) != (1.0, 0.0):
        return np.dtype(np.float64 if stored == np.float64 else np.float32)
    return stored


def _scaled(stored: np.ndarray, volume: TiffVolume) -> np.ndarray:
    stack, dtype = volume.stack, volume.scan.voxels.dtype
    if (stack.slope, stack.intercept) == (1.0, 0.0):
        return stored.astype(dtype, copy=False)
    return (stored * stack.slope + stack.intercept).astype(dtype)


def _note(stack: Stack) -> str:
    if stack.spacing_mm is None:
        return (
            "This TIFF file states neither the size of its voxels nor their position in the patient; voxels of 1 mm, "
            "position 0 and the axes of the patient are assumed."
        )
    size = " x ".join(f"{step:.4g}" for step in stack.spacing_mm)
    return (
        f"A TIFF file does not state its position in the patient; position 0 and the axes of the patient are assumed. "
        f"Its voxels are {size} mm (z, y, x) according to {stack.writer}."
    )
