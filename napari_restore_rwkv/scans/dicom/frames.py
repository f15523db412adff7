"""Several images at every position: which of them belong together, according to their attributes."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

    Level = Sequence[int]

_SIEMENS_B, _PHILIPS_B, _GE_B = 0x0019100C, 0x20011003, 0x00431039
# What can differ between frames, most informative first: attribute, its displayed name, unit.
_DIFFERENCES: tuple[tuple[str | tuple[int, ...], str, str], ...] = (
    ("ImageType", "type", ""),
    ("ComplexImageComponent", "", ""),
    ("EchoTime", "TE", " ms"),
    ("EchoNumbers", "echo", ""),
    ("InversionTime", "TI", " ms"),
    ("FlipAngle", "flip angle", "°"),
    ("DiffusionBValue", "b", ""),
    ((_SIEMENS_B, _PHILIPS_B, _GE_B), "b", ""),
    ("DiffusionGradientOrientation", "gradient", ""),
    ("StackID", "stack", ""),
    ("ConvolutionKernel", "kernel", ""),
    ("KVP", "", " kV"),
    ("SeriesDescription", "", ""),
    ("TemporalPositionIdentifier", "time", ""),
    ("NominalPercentageOfCardiacPhase", "phase", " %"),
    ("TriggerTime", "trigger", " ms"),
    ("FrameReferenceTime", "time", " ms"),
    ("AcquisitionNumber", "acquisition", ""),
    ("AcquisitionDateTime", "acquired", ""),
    ("AcquisitionDate", "acquired", ""),
    ("AcquisitionTime", "acquired", ""),
    ("ContentTime", "made", ""),
)
# What increases from frame to frame without being constant within a frame.
_NUMBER = "InstanceNumber"
_GROWING = ("AcquisitionDateTime", "AcquisitionTime", "TriggerTime", _NUMBER)
FRAME_TAGS: tuple[str | int, ...] = tuple(
    tag for keys, _, _ in _DIFFERENCES for tag in ([keys] if isinstance(keys, str) else keys)
)
# GE adds this to computed b-values.
_GE_OFFSET = 1_000_000_000
_LONGEST_NAME = 60
# Dates are written as digits in front of those of a time.
_DAY = 1_000_000


def split_frames(tags: Sequence[Dataset], levels: Sequence[Level]) -> list[tuple[str, list[int]]] | None:
    """Find the frames of a stack that has several images at each position.

    Parameters
    ----------
    tags
        Of every image.
    levels
        For every position the indices of its images, the same number everywhere.

    Returns
    -------
    list
        For every frame its name and the index of its image at each position; None if nothing indicates which images
        belong together.
    """
    level_of = {index: number for number, level in enumerate(levels) for index in level}
    groups: list[tuple[list[str], list[int]]] = [([], sorted(level_of))]
    for keys, word, unit in _DIFFERENCES:
        groups = [part for group in groups for part in _refined(group, tags, level_of, keys, (word, unit))]
    ordered: list[tuple[str, list[int]]] = []
    for names, members in groups:
        frames = _by_growth(tags, members, level_of, len(levels))
        if frames is None:
            return None
        title = ", ".join(names)[:_LONGEST_NAME]
        many = len(frames) > 1 or not title
        for number, frame in enumerate(frames):
            ordered.append((f"{title} frame {number}".strip() if many else title, frame))
    return ordered


def _refined(
    group: tuple[list[str], list[int]],
    tags: Sequence[Dataset],
    level_of: dict[int, int],
    keys: str | tuple[int, ...],
    words: tuple[str, str],
) -> list[tuple[list[str], list[int]]]:
    """Split a group by an attribute, if each part then has the same number of images at every position."""
    names, members = group
    positions = set(level_of.values())
    if len(members) == len(positions):
        return [group]
    parts: dict[tuple[Any, ...], list[int]] = {}
    for index in members:
        parts.setdefault(_value(tags[index], keys), []).append(index)
    if len(parts) == 1 or any(not _balanced(part, level_of, positions) for part in parts.values()):
        return [group]
    word, unit = words
    # Only what differs is part of the name: for an image type, the words that not all have.
    common = set.intersection(*(set(value) for value in parts)) if keys == "ImageType" else set()
    differing = {value: " ".join(plain(part) for part in value if part not in common) for value in parts}
    return [([*names, f"{word} {differing[value]}{unit}".strip()], parts[value]) for value in sorted(parts, key=_order)]


def _balanced(members: list[int], level_of: dict[int, int], positions: set[int]) -> bool:
    counts = dict.fromkeys(positions, 0)
    for index in members:
        counts[level_of[index]] += 1
    return len(set(counts.values())) == 1


def _by_growth(
    tags: Sequence[Dataset], members: list[int], level_of: dict[int, int], positions: int
) -> list[list[int]] | None:
    """Split a group whose frames follow each other, in time or number; None if they do not."""
    if len(members) == positions:
        return [sorted(members, key=lambda index: level_of[index])]
    for key in _GROWING:
        values = {index: _grown(tags[index], key) for index in members}
        # A single value at one position does not define an order, nor do numbers that start again.
        distinct = set(values.values()) if key == _NUMBER else {(level_of[at], value) for at, value in values.items()}
        if None in values.values() or len(distinct) < len(members):
            continue
        levels: list[list[int]] = [[] for _ in range(positions)]
        for index in sorted(members, key=lambda index: float(values[index] or 0)):
            levels[level_of[index]].append(index)
        frames = [list(frame) for frame in zip(*levels, strict=True)]
        if _follow(frames, values) or (key == _NUMBER and _follow(levels, values)):
            return frames
    return None


def _grown(tags: Dataset, key: str) -> float | None:
    """Return the number of an attribute; with its date for a time, as a scan may last beyond midnight."""
    number = _number(tags.get(key))
    if key != "AcquisitionTime" or number is None:
        return number
    return number + _DAY * (_number(tags.get("AcquisitionDate")) or 0.0)


def _follow(blocks: list[list[int]], values: dict[int, float | None]) -> bool:
    """Whether each block ends before the next begins, in any order of blocks."""
    ends = sorted((min(values[i] or 0 for i in block), max(values[i] or 0 for i in block)) for block in blocks)
    return all(before[1] < after[0] for before, after in pairwise(ends))


def _value(tags: Dataset, keys: str | tuple[int, ...]) -> tuple[Any, ...]:
    if isinstance(keys, str):
        return _parts(tags.get(keys))
    for key in keys:
        if key in tags:
            return _parts(_private(tags[key].value, ge=key == _GE_B))
    return ("",)


def _private(value: Any, ge: bool) -> Any:
    """Return a b-value from a private attribute, which may be bytes, text or numbers."""
    if isinstance(value, bytes):
        if len(value) in {4, 8} and not value.strip().isdigit():
            value = struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
        else:
            value = value.decode("latin-1").strip("\0 ").split("\\")
    first = _parts(value)[0]
    number = _number(first)
    return first if number is None else number % _GE_OFFSET if ge else number


def _parts(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ("",)
    several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
    found = tuple(value) if several else (value,)
    return tuple(part if (number := _number(part)) is None else number for part in found) or ("",)


def _number(value: Any) -> float | None:
    """Return a number, also for a date or time, whose digits increase with it; None for other words."""
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text) else None


def plain(value: Any) -> str:
    """Return a value as text, numbers in their shortest form, whatever digits a file has."""
    number = _number(value)
    return str(value) if number is None else f"{number:.10g}"


def _order(value: tuple[Any, ...]) -> list[tuple[int, float, str]]:
    """Return a sort key for values: numbers in order, before words."""
    return [(0, part, "") if isinstance(part, float) else (1, 0.0, str(part)) for part in value]
