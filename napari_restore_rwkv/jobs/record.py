"""The record of a job, ``job/job.json``: what it is and how its output is laid out, checked when read.

Results are shared between people, and a digest only proves that a record is as its author wrote it. So every value is
checked before it is used, above all the names in it, which decide what is read and written.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..scans.zarr.digests import FOLDER
from ..scans.zarr.reading import OURS
from ..scans.zarr.writing import ZarrLayout
from ..untrusted import UnsafeNameError, is_number, json_object, path_inside, read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
JOB, GROUP = "job.json", "zarr.json"
_CHECK = "check"
_DTYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float16", "float32", "float64"}
# Far more than any scan has; a forged record must not lead to endless lists.
_LONGEST_SIDE, _MOST_LEVELS = 1_000_000, 16


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What `job.json` says.

    Attributes
    ----------
    identity
        What the result depends on.
    layout
        How the output is divided into slabs.
    provenance
        As far as it was known at the start.
    changes
        A digest that changes when the input's files are modified; None if the input has none.
    metadata
        Text of each metadata file of the output, by name relative to it.
    """

    identity: dict[str, Any]
    layout: ZarrLayout
    provenance: dict[str, Any]
    changes: str | None
    metadata: dict[str, str]


def metadata_names(levels: int) -> list[str]:
    """Return the names of all metadata files of an output, relative to it."""
    return [GROUP, f"{FOLDER}/{GROUP}", *(f"{level}/{GROUP}" for level in range(levels))]


def read_record(path: Path) -> JobRecord:
    """Read the record of an output.

    Raises
    ------
    OutputError
        There is none, it is damaged, or it names files that do not belong to it.
    """
    if not path.exists():
        raise OutputError(f"There is no {path}; check the name.")
    try:
        content = json_object(read_regular(path_inside(path, f"{FOLDER}/{JOB}")), strict=True)
        if not is_checked(content):
            raise ValueError("its digest does not match")
        if content["schema"] == SCHEMA:
            return _checked_values(path, content)
    except FileNotFoundError as error:
        raise OutputError(
            f"{path.name} was not written by this program; give a folder ending in .ome.zarr that was."
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{path.name} cannot be read ({reason}): fix that, or work on a copy.") from error
    except UnsafeNameError as error:
        raise OutputError(
            f"{path.name} cannot be used: its record {error}. It may have been forged; start over with a new output."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path) from error
    raise OutputError(
        f"{path.name} was written by another version of this program (record {str(content['schema'])[:20]}, this one "
        f"knows {SCHEMA}); use that version, or start over with a new output."
    )


def damaged(path: Path) -> OutputError:
    """Return the error for an output whose record cannot be trusted."""
    return OutputError(f"{path.name} cannot be continued: its record {JOB} is damaged; start over with a new output.")


def checked(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with a digest of itself."""
    return {**content, _CHECK: _digest(content)}


def is_checked(content: Mapping[str, Any]) -> bool:
    """Whether content is as `checked` returned it."""
    return bool(content.get(_CHECK) == _digest({key: value for key, value in content.items() if key != _CHECK}))


def _checked_values(path: Path, content: dict[str, Any]) -> JobRecord:
    """Make a record from its plain values; ValueError or another Python error if they have the wrong type."""
    layout = _layout(content["layout"])
    names = metadata_names(layout.levels)
    metadata: dict[str, str] = content["metadata"]
    kinds = (metadata, dict), (content["identity"], dict), (content["record"], dict), (content["changes"], str | None)
    if not all(isinstance(value, kind) for value, kind in kinds) or not _is_tile(content["identity"].get("tile")):
        raise ValueError("values have the wrong type")
    for name in metadata:
        path_inside(path, name, names)
    if metadata.keys() != set(names):
        raise ValueError("metadata files are missing")
    for name, text in metadata.items():
        text.encode()
        _check_metadata(name, json_object(text), layout)
    return JobRecord(content["identity"], layout, content["record"], content["changes"], metadata)


def _layout(values: dict[str, Any]) -> ZarrLayout:
    layout = ZarrLayout(**{**values, "shape": tuple(values["shape"])})
    numbers = [*layout.shape, layout.axis, layout.slab, layout.levels]
    if len(layout.shape) != 3 or not all(is_number(value) for value in numbers):
        raise ValueError("its layout is not made of numbers")
    sides = all(1 <= side <= _LONGEST_SIDE for side in layout.shape)
    if not (
        sides
        and layout.dtype in _DTYPES
        and 0 <= layout.axis <= 2
        and 1 <= layout.slab <= _LONGEST_SIDE
        and 1 <= layout.levels <= _MOST_LEVELS
    ):
        raise ValueError("its layout is impossible")
    return layout


def _is_tile(values: Any) -> bool:
    return values is None or (
        isinstance(values, dict) and values.keys() == {"size", "overlap"} and all(map(is_number, values.values()))
    )


def _check_metadata(name: str, values: dict[str, Any], layout: ZarrLayout) -> None:
    """Raise ValueError unless a metadata file describes what the layout says."""
    level = name.split("/")[0]
    if name == GROUP:
        fits = isinstance(values["attributes"][OURS], dict)
    elif name == f"{FOLDER}/{GROUP}":
        fits = values["node_type"] == "group"
    else:
        shard = values["chunk_grid"]["configuration"]["chunk_shape"]
        fits = values["shape"] == list(layout.level_shape(int(level))) and shard == list(layout.shard(int(level)))
    if not fits:
        raise ValueError(f"{name} does not match the layout")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
