"""The private header of Siemens MR files ("CSA"): named lists of texts, a few of which say what no other tag does.

The manufacturer has not published the layout; it is as documented at https://nipy.org/nibabel/dicom/siemens_csa.html.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GROUP, _IMAGE = 0x0029, 0x10
# Manufacturers reserve a block of elements through a creator in one of these; Siemens takes the first free one.
_BLOCKS = range(0x10, 0x14)
_CREATOR = "SIEMENS CSA HEADER"
CSA_TAGS: tuple[int, ...] = tuple(
    tag for block in _BLOCKS for tag in ((_GROUP << 16) + block, (_GROUP << 16) + (block << 8) + _IMAGE)
)
_MAGIC = b"SV10"
_HEAD, _TAG, _ITEM = struct.Struct("<4x4xI4x"), struct.Struct("<64si4sii4x"), struct.Struct("<4xi8x")
_MOST_TAGS, _MOST_ITEMS = 1000, 1000


def csa_fields(header: Dataset) -> dict[str, list[str]]:
    """Return the values of the image's private header by name; {} if there is no readable one.

    Parameters
    ----------
    header
        With `CSA_TAGS` among its tags.
    """
    for block in _BLOCKS:
        creator = header.get((_GROUP, block))
        element = header.get((_GROUP, (block << 8) + _IMAGE))
        if creator is None or element is None or str(creator.value).strip() != _CREATOR:
            continue
        content = element.value
        if isinstance(content, bytes) and content.startswith(_MAGIC):
            try:
                return _fields(content)
            except struct.error:
                return {}
    return {}


def _fields(content: bytes) -> dict[str, list[str]]:
    """Read all fields; struct.error if the header is cut off or makes no sense."""
    (count,) = _HEAD.unpack_from(content)
    at, fields = _HEAD.size, {}
    for _ in range(min(count, _MOST_TAGS)):
        name, _, _, _, items = _TAG.unpack_from(content, at)
        at += _TAG.size
        if not 0 <= items <= _MOST_ITEMS:
            raise struct.error("a field with too many values")
        values = []
        for _ in range(items):
            (length,) = _ITEM.unpack_from(content, at)
            at += _ITEM.size
            if not 0 <= length <= len(content) - at:
                raise struct.error("a value beyond the end")
            values.append(_text(content[at : at + length]))
            # Values start at multiples of four bytes.
            at += -(-length // 4) * 4
        fields[_text(name)] = [value for value in values if value]
    return fields


def _text(content: bytes) -> str:
    return content.partition(b"\0")[0].decode("latin-1").strip()
