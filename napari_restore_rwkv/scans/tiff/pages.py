"""The pages of a TIFF file: found, checked against the size of the file, and unpacked to no more than their size.

The format: TIFF 6.0 (Adobe, 1992) and BigTIFF. Tags are read by tifffile. The chain of pages is followed here first,
because tifffile reads a truncated file as one with fewer pages, and follows an endless chain; and strips are unpacked
here, because tifffile fills those that are too short.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile

from ...errors import ScanError
from .. import integrity
from .unpacking import (
    DEFLATE,
    FLOATING,
    HORIZONTAL,
    LZW,
    NO_PREDICTOR,
    NONE,
    OLD_DEFLATE,
    PACKBITS,
    DamagedStripError,
    unpacked,
    unpredicted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
# For a page: format and size of its tag count, size of a tag, format of the offset of the next page.
_CLASSIC, _BIG = ("H", 2, 12, "I"), ("Q", 8, 20, "Q")
# Tifffile takes half a millisecond per page.
_MOST_PAGES = 1 << 14
_MOST_TAGS = 4096
# Bytes of a value, by its type: one byte or letter, then numbers of two, four and eight bytes.
_VALUE_BYTES = {1: 1, 2: 1, 6: 1, 7: 1, 3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4}
_SHARED, _ALWAYS_ALLOWED = 2, 1 << 20
_PACKED = {LZW: "LZW", DEFLATE: "deflate", OLD_DEFLATE: "deflate", PACKBITS: "PackBits"}
_PREDICTED = {LZW, DEFLATE, OLD_DEFLATE}
_BILEVEL, _GREY = 0, 1
_UPRIGHT = 1
# What tifffile raises for damaged tags, besides its own errors.
_DAMAGED = (
    tifffile.TiffFileError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Form:
    """What all pages of a stack have in common.

    Attributes
    ----------
    size
        Rows and columns of a page.
    dtype
        Of the stored values, with their byte order.
    compression, predictor
        As TIFF numbers them.
    segment
        Rows and columns of a strip or tile, the last of which may extend beyond the page.
    tiled
        Whether the segments are tiles, which are always stored in full size.
    """

    size: tuple[int, int]
    dtype: np.dtype
    compression: int
    predictor: int
    segment: tuple[int, int]
    tiled: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Where the segments of a page are in the file: first byte and number of bytes of each, row by row."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a file.

    Attributes
    ----------
    form
        Of all of them.
    pages
        In their order.
    description
        Text of the first page.
    resolution
        Columns and rows per unit of length, according to the first page; 0 if it does not say.
    """

    form: Form
    pages: tuple[Page, ...]
    description: str
    resolution: tuple[float, float]


def pages_of(path: Path) -> Pages:
    """Read the structure of the pages of a file, but no pixels.

    Raises
    ------
    ScanError
        The file is damaged or cut off, or its pages are not slices of equal size with one real value per pixel.
    """
    try:
        with path.open("rb") as stream:
            count = _count(path, stream)
            stream.seek(0)
            with _strict(path), tifffile.TiffFile(stream, name=path.name, _multifile=False) as file:
                file.pages.useframes = False
                found = [file.pages[index] for index in range(count)]
                forms = [_form(path, page) for page in found]
                pages = tuple(_page(path, page, form) for page, form in zip(found, forms, strict=True))
                first: Any = found[0]
                text = first.tags.valueof("ImageDescription", "")
                resolution = (_ratio(first, "XResolution"), _ratio(first, "YResolution"))
    except _DAMAGED as error:
        raise integrity.broken(path, "its tags are damaged") from error
    if any(form != forms[0] for form in forms):
        raise ScanError(
            f"{path.name} has pages of several sizes or types; save the stack alone, without previews and thumbnails."
        )
    return Pages(forms[0], pages, text if isinstance(text, str) else "", resolution)


def in_one_block(path: Path, pages: Pages, count: int) -> Pages:
    """Return `count` consecutive pages of which only one is listed, as ImageJ stores large stacks.

    Raises
    ------
    ScanError
        They are compressed, or incomplete.
    """
    [first] = pages.pages
    size = pages.form.size[0] * pages.form.size[1] * pages.form.dtype.itemsize
    start, behind = first.starts[0], first.starts[0]
    for at, length in zip(first.starts, first.lengths, strict=True):
        if at != behind or pages.form.compression != NONE or pages.form.tiled:
            raise integrity.broken(path, f"it has one page, but its description says {count}")
        behind += length
    found = path.stat().st_size - start
    if behind - start != size or not 1 <= count <= min(_MOST_PAGES, found // size):
        raise integrity.cut_off(path, found, count * size)
    moved = (Page(tuple(at + number * size for at in first.starts), first.lengths) for number in range(count))
    return replace(pages, pages=tuple(moved))


def read_page(path: Path, stream: BinaryIO, form: Form, page: Page) -> np.ndarray:
    """Return the stored values of a page, shape (Y, X), in the byte order of this computer.

    Raises
    ------
    ScanError
        A strip or tile of it is damaged, too short or too long.
    """
    height, width = form.size
    rows, columns = form.segment
    across = math.ceil(width / columns)
    values = np.empty(form.size, form.dtype.newbyteorder("="))
    for at, (start, length) in enumerate(zip(page.starts, page.lengths, strict=True)):
        top, left = at // across * rows, at % across * columns
        kept = rows if form.tiled else min(rows, height - top)
        stream.seek(start)
        content = _unpacked(path, stream.read(length), form, kept)
        segment = unpredicted(np.frombuffer(content, form.dtype).reshape(kept, columns), form.predictor)
        values[top : top + rows, left : left + columns] = segment[: height - top, : width - left]
    return values


def _count(path: Path, stream: BinaryIO) -> int:
    """Return the number of pages, after checking that their chain ends and stays within the file, as do their tags."""
    head = stream.read(16)
    order = _BYTE_ORDERS.get(head[:2])
    if order is None or len(head) < 8:
        raise integrity.broken(path, "it has no TIFF header, so it is another type of file or cut off")
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in {42, 43} or (version == 43 and len(head) < 16):
        raise integrity.broken(path, "it has no TIFF header, so it is another type of file or cut off")
    count_format, count_size, tag_size, next_format = _BIG if version == 43 else _CLASSIC
    (at,) = struct.unpack_from(f"{order}{next_format}", head, 8 if version == 43 else 4)
    seen: set[int] = set()
    size, referred = path.stat().st_size, 0
    while at:
        if at in seen:
            raise integrity.broken(path, "the chain of its pages never ends")
        if len(seen) == _MOST_PAGES:
            raise ScanError(f"{path.name} contains more than {_MOST_PAGES} pages; split the stack into several files.")
        seen.add(at)
        # Reading beyond the end of the file gives no bytes; seeking far beyond it fails.
        stream.seek(min(at, size))
        try:
            (tags,) = struct.unpack(f"{order}{count_format}", stream.read(count_size))
            if not 0 < tags <= _MOST_TAGS:
                raise integrity.broken(path, f"its page {len(seen) - 1} has {tags} tags")
            referred += _referred_bytes(stream.read(tags * tag_size), order, tag_size)
            (at,) = struct.unpack(f"{order}{next_format}", stream.read(struct.calcsize(next_format)))
        except struct.error as error:
            raise integrity.broken(path, f"it is cut off (page {len(seen) - 1} is incomplete)") from error
        # Pages may share a few values, but each page reads and keeps its own copy.
        if referred > _SHARED * size + _ALWAYS_ALLOWED:
            raise integrity.broken(path, f"the tags of its pages refer to {referred} bytes, more than the file has")
    if not seen:
        raise integrity.broken(path, "it has no pages")
    return len(seen)


def _referred_bytes(tags: bytes, order: str, tag_size: int) -> int:
    """Return the size in bytes of the values that the tags of a page only refer to."""
    form = f"{order}HHQ8x" if tag_size == _BIG[2] else f"{order}HHI4x"
    inside = 8 if tag_size == _BIG[2] else 4
    sizes = [count * _VALUE_BYTES.get(kind, 8) for _, kind, count in struct.iter_unpack(form, tags)]
    return sum(size for size in sizes if size > inside)


@contextmanager
def _strict(path: Path) -> Iterator[None]:
    """Turn into errors what tifffile only logs before it continues."""
    log = logging.getLogger("tifffile")
    watch = _Watch()
    log.addHandler(watch)
    passed_on, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = passed_on
        log.removeHandler(watch)
    if watch.seen:
        raise integrity.broken(path, "its tags are damaged")


class _Watch(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen = False
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen |= record.thread == self._thread


def _form(path: Path, page: Any) -> Form:
    """Return the form of a page; ScanError if it is not a slice with one real value per pixel."""
    photometric = int(page.photometric)
    if page.samplesperpixel != 1:
        colours = photometric not in {_BILEVEL, _GREY}
        raise integrity.colour(path) if colours else integrity.vector(path, page.samplesperpixel)
    if photometric not in {_BILEVEL, _GREY}:
        raise integrity.colour(path)
    dtype = page.dtype
    if dtype is not None and dtype.kind == "c":
        raise integrity.complex_valued(path)
    if dtype is None or dtype.kind not in "iuf" or page.bitspersample != 8 * dtype.itemsize or page.fillorder != 1:
        raise ScanError(f"{path.name} packs its values into {page.bitspersample} bits; save it with 8, 16 or 32 bits.")
    if page.compression != NONE and page.compression not in _PACKED:
        raise ScanError(
            f"{path.name} uses an unsupported compression (TIFF number {int(page.compression)}); save it "
            f"uncompressed, or with {', '.join(sorted(set(_PACKED.values())))}."
        )
    orientation = page.tags.valueof("Orientation", _UPRIGHT)
    if orientation != _UPRIGHT:
        raise ScanError(
            f"{path.name} is stored mirrored or turned (TIFF orientation {orientation}); save it with orientation 1."
        )
    floating = dtype.kind == "f"
    if page.predictor != NO_PREDICTOR and page.compression not in _PREDICTED:
        # Some programs obey it, others do not, as the format has it for these compressions only.
        raise ScanError(
            f"{path.name} has a predictor (TIFF number {int(page.predictor)}) without a compression that uses one; "
            "save it with LZW or deflate, or without the predictor."
        )
    if page.predictor not in {NO_PREDICTOR, FLOATING if floating else HORIZONTAL} or page.imagedepth != 1:
        raise integrity.broken(path, "its values have an unknown type")
    height, width = int(page.imagelength), int(page.imagewidth)
    if min(height, width) < 1:
        raise ScanError(f"{path.name} is empty: its header gives {height} x {width} pixels.")
    segment = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    if min(segment) < 1:
        raise integrity.broken(path, "it has strips or tiles without rows")
    stored = dtype.newbyteorder(page.parent.byteorder)
    return Form((height, width), stored, int(page.compression), int(page.predictor), segment, bool(page.is_tiled))


def _page(path: Path, page: Any, form: Form) -> Page:
    """Return where the segments are; ScanError if they are too few, too short, or beyond the end of the file."""
    starts, lengths = tuple(page.dataoffsets), tuple(page.databytecounts)
    (height, width), (rows, columns) = form.size, form.segment
    needed = math.ceil(height / rows) * math.ceil(width / columns)
    if len(starts) != needed or len(lengths) != needed:
        raise integrity.broken(path, f"page {page.index} has {len(starts)} strips or tiles, but {needed} are needed")
    size = path.stat().st_size
    if min(*starts, *lengths) < 1 or max(map(sum, zip(starts, lengths, strict=True))) > size:
        raise integrity.broken(path, f"it is cut off or damaged (page {page.index} is incomplete)")
    if form.compression == NONE:
        pixels = (needed * rows if form.tiled else height) * columns
        if sum(lengths) < pixels * form.dtype.itemsize:
            raise integrity.cut_off(path, sum(lengths), pixels * form.dtype.itemsize)
    return Page(starts, lengths)


def _ratio(page: Any, name: str) -> float:
    value = page.tags.valueof(name, (0, 1))
    return value[0] / value[1] if value[1] else 0.0


def _unpacked(path: Path, content: bytes, form: Form, rows: int) -> bytes:
    """Return the bytes of the rows of a segment."""
    needed = rows * form.segment[1] * form.dtype.itemsize
    # Some writers put rows beyond the page in the last strip.
    most = form.segment[0] * form.segment[1] * form.dtype.itemsize
    try:
        found = unpacked(content, form.compression, most)
    except DamagedStripError as error:
        raise integrity.broken(path, "its compressed pixels are damaged or cut off") from error
    if len(found) < needed:
        raise integrity.cut_off(path, len(found), needed)
    return found[:needed]
