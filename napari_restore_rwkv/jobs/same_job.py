"""Whether an unfinished output is the job that is to be continued: all is compared, as results come from strangers.

Metadata decide how zarr stores each voxel: forged ones, with another type or a lossy codec, would change the result.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..scans.zarr.writing import create_image, plain_json
from .identity import differences

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zarr.core.buffer import Buffer

    from ..scans.scan import Scan
    from ..scans.zarr.writing import ZarrLayout
    from .ledger import Ledger

# Of a record, what another run of the same job may say differently.
_OF_ONE_RUN = {"created", "device", "slice_axis_reason"}
# Of metadata, what affects voxels or geometry; the rest may differ between versions of zarr.
_MEANING = ("node_type", "attributes", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")


def refuse_another_job(
    ledger: Ledger, scan: Scan, layout: ZarrLayout, identity: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Raise OutputError unless an output was started as this job.

    Parameters
    ----------
    ledger
        Of the output.
    scan, layout, identity, record
        With which it would be created now, see `create_ledger`.
    """
    found = differences(
        {**ledger.identity, "layout": asdict(ledger.layout), "record": _lasting(ledger.record)},
        {**identity, "layout": asdict(layout), "record": _lasting(plain_json(record))},
    )
    if found:
        raise OutputError(
            f"{ledger.path.name} was started as a different job ({'; '.join(found)}): use the original settings, "
            "or start over with a new output."
        )
    if unlike := _unlike_new(ledger.metadata, scan, layout):
        raise OutputError(
            f"{ledger.path.name} cannot be continued: {', '.join(unlike)} in its record is not as this program "
            "writes it. It may have been forged; start over with a new output."
        )


def _lasting(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says in each run of the same job."""
    return {name: value for name, value in record.items() if name not in _OF_ONE_RUN}


def _unlike_new(metadata: Mapping[str, str], scan: Scan, layout: ZarrLayout) -> list[str]:
    """Return the names of metadata files that differ in meaning from those of a new output."""
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    create_image(MemoryStore(made), scan, layout, {"complete": False})
    return [name for name, text in made.items() if _meaning(metadata[name]) != _meaning(text.to_bytes())]


def _meaning(text: str | bytes) -> dict[str, Any]:
    content = json.loads(text)
    return {name: content.get(name) for name in _MEANING}
