"""What programs write into the description of a TIFF stack: the order of its pages, voxel sizes, and a scale of values.

ImageJ (lines of "key=value"), OME (XML) and tifffile (JSON) are known; in other files the pages are slices in order.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ...errors import ScanError
from .. import integrity
from ..units_of_length import millimeters

if TYPE_CHECKING:
    from pathlib import Path

    from .pages import Pages

_LONGEST_TEXT = 16 << 20


@dataclass(frozen=True, slots=True)
class Stack:
    """How pages form a stack.

    Attributes
    ----------
    axes, sizes
        Letters and lengths of the axes across pages, slowest first, including Z.
    spacing_mm
        Along z, y, x; None if the file does not say.
    slope, intercept
        ``value = stored * slope + intercept``.
    writer
        The program that wrote this.
    """

    axes: str
    sizes: tuple[int, ...]
    spacing_mm: tuple[float, float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    writer: str = ""


def stack_of(path: Path, pages: Pages) -> Stack:
    """Read the description of a stack.

    Raises
    ------
    ScanError
        It is damaged, or does not match the pages.
    """
    text, count = pages.description, len(pages.pages)
    if len(text) > _LONGEST_TEXT:
        raise integrity.broken(path, "its description is too long")
    if text.startswith("ImageJ="):
        stack = _imagej(path, pages)
    elif "<OME" in text[:4096]:
        stack = _ome(path, text)
    elif text.startswith('{"shape"'):
        stack = _tifffile(path, text)
    else:
        return Stack("Z", (count,))
    long = [axis for axis, size in zip(stack.axes, stack.sizes, strict=True) if size > 1]
    if len(long) == 1:
        # Programs that write an array without axis names call its only axis time or channels.
        stack = replace(stack, axes=stack.axes.translate(str.maketrans(f"Z{long[0]}", f"{long[0]}Z")))
    if min(stack.sizes) < 1 or math.prod(stack.sizes) != count:
        raise ScanError(
            f"{path.name} contains {count} pages, but its description says "
            f"{' x '.join(map(str, stack.sizes))} ({stack.axes}); save the whole stack as one file again."
        )
    return stack


def imagej_images(path: Path, text: str) -> int:
    """Return how many images ImageJ says it wrote; 0 if another program wrote the file."""
    images = _lines(text).get("images", "0") if text.startswith("ImageJ=") else "0"
    if not (images.isdigit() and images.isascii() and len(images) < 10):
        raise integrity.broken(path, f"its ImageJ field 'images' is {images[:20]}")
    return int(images)


def _lines(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in text.splitlines())}


def _imagej(path: Path, pages: Pages) -> Stack:
    """Read lines such as "slices=20" and "spacing=2.5"; channels change fastest from page to page, then slices."""
    fields = _lines(pages.description)

    def number(name: str, default: float) -> float:
        try:
            return float(fields.get(name, default))
        except ValueError as error:
            raise integrity.broken(path, f"its ImageJ field '{name}' is not a number") from error

    def count(name: str) -> int:
        value = number(name, 1)
        if not (value.is_integer() and 1 <= value <= len(pages.pages)):
            raise integrity.broken(path, f"its ImageJ field '{name}' is {fields[name][:20]}")
        return int(value)

    sizes = (count("frames"), count("slices"), count("channels"))
    if sizes == (1, 1, 1):
        sizes = (1, len(pages.pages), 1)
    if number("cf", 0) != 0 and "c0" in fields:
        raise ScanError(f"{path.name} has a calibration function; apply it in ImageJ and save 32-bit values.")
    slope, intercept = number("c1", 1), number("c0", 0)
    # Those of the other axes are there if they differ from that of x.
    x, y, z = (_imagej_unit(fields.get(name, fields.get("unit", ""))) for name in ("unit", "yunit", "zunit"))
    spacing = None
    if x is not None and y is not None and z is not None and min(pages.resolution) > 0:
        columns, rows = pages.resolution
        spacing = (abs(number("spacing", 1)) * z, y / rows, x / columns)
    return Stack("TZC", sizes, spacing, slope, intercept, "ImageJ")


def _imagej_unit(name: str) -> float | None:
    """Return a unit of length in mm; ImageJ writes a micro sign as an escape sequence."""
    return millimeters(name.replace("\\u00B5", "\N{MICRO SIGN}"))


def _ome(path: Path, text: str) -> Stack:
    """Read the first image of OME-XML; its pages have to be in its order and in this file."""
    if "<!" in text.replace("<!--", ""):
        raise integrity.broken(path, "its OME description defines entities")
    try:
        root = ElementTree.fromstring(text)
        pixels = root.findall(".//{*}Pixels")
        if len(pixels) != 1:
            raise ScanError(f"{path.name} contains {len(pixels)} OME images; save the one to restore on its own.")
        order = pixels[0].attrib["DimensionOrder"]
        if sorted(order) != sorted("XYZCT") or order[:2] != "XY":
            raise integrity.broken(path, "its OME description is damaged")
        axes = order[:1:-1]
        sizes = tuple(int(pixels[0].attrib[f"Size{axis}"]) for axis in axes)
        if not all(1 <= size <= 1 << 20 for size in sizes):
            raise integrity.broken(path, "its OME description is damaged")
        for data in pixels[0].iterfind("{*}TiffData"):
            first = [int(data.get(f"First{axis}", 0)) for axis in axes]
            index = first[2] + sizes[2] * (first[1] + sizes[1] * first[0])
            if int(data.get("IFD", index)) != index:
                raise ScanError(f"{path.name} has its pages in a different order than OME's; save it as a plain stack.")
        return Stack(axes, sizes, _ome_spacing(pixels[0]), writer="OME")
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise integrity.broken(path, "its OME description is damaged") from error


def _ome_spacing(pixels: ElementTree.Element) -> tuple[float, float, float] | None:
    """Return the voxel size; OME's own unit is the micrometre."""
    steps = []
    for axis in "ZYX":
        given = pixels.get(f"PhysicalSize{axis}")
        unit = millimeters(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        alone = axis == "Z" and pixels.get("SizeZ") == "1"
        if unit is None or (given is None and not alone):
            return None
        steps.append(float(given) * unit if given is not None else 1.0)
    return steps[0], steps[1], steps[2]


def _tifffile(path: Path, text: str) -> Stack:
    """Read the shape of the saved array, whose last two axes are a page."""
    try:
        described = json.loads(text)
        shape = [int(size) for size in described["shape"]]
        axes = str(described.get("axes") or "")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise integrity.broken(path, "the shape in its description is damaged") from error
    leading, named = shape[:-2], axes if len(axes) == len(shape) else ""
    if {"Y", "X"} <= set(named) and not named.endswith("YX"):
        raise ScanError(f"{path.name} has the axes {named[:20]}; save it with Y and X last, such as ZYX.")
    letters = named[:-2] if named.endswith("YX") else ""
    if letters.count("Z") != 1:
        # Without names the axis next to the page is taken as the slice axis.
        letters = "".join("Q" for _ in leading[:-1]) + "Z"
    return Stack(letters, tuple(leading or [1]), writer="tifffile")
