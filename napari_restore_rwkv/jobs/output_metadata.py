"""Whether the metadata of an unfinished output are those that this program would write: results come from strangers.

They decide how zarr stores each voxel, so forged ones, with another type or a lossy codec, would change a result that
is then continued.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..scans.zarr.writing import create_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zarr.core.buffer import Buffer

    from ..scans.scan import Scan
    from ..scans.zarr.writing import ZarrLayout

# The rest may differ between versions of zarr, and changes no voxel.
_MEANING = ("node_type", "attributes", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")


def unlike_ours(metadata: Mapping[str, str], scan: Scan, layout: ZarrLayout) -> list[str]:
    """Return the names of metadata files that differ in meaning from those of a new output.

    Parameters
    ----------
    metadata
        Text of each file, by its name relative to the output.
    scan, layout
        As for `create_image`.
    """
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    create_image(MemoryStore(made), scan, layout, {"complete": False})
    return [name for name, text in made.items() if _meaning(metadata[name]) != _meaning(text.to_bytes())]


def _meaning(text: str | bytes) -> dict[str, Any] | None:
    """Return what affects voxels or geometry; None if the text is no metadata."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return {name: content.get(name) for name in _MEANING} if isinstance(content, dict) else None
