"""Reading files that somebody else may have made: names in them become checked paths, and their sizes are limited.

Results, bundles and records are shared between people. A name inside such a file may point anywhere, a record may be
replaced by a pipe that never ends, and JSON may be nested until the parser gives up.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# Records and cards have some kilobytes; one with a long curve has less than one megabyte.
RECORD_BYTES = 16 << 20
CONFIG_BYTES = 1 << 20
_MOST_PARTS = 500
_FORBIDDEN = set('\\:*?"<>|')
_SHOWN = 60


class UnsafeNameError(ValueError):
    """A name read from a file leads somewhere else; the text is the middle of a sentence."""


def path_inside(folder: Path, name: object, allowed: Collection[str] | None = None) -> Path:
    """Return the path in a folder for a name that was read from a file.

    Parameters
    ----------
    folder
        The name must not lead outside it, either by itself or through a link.
    name
        Whatever the file has where a name is expected; its parts are separated by slashes.
    allowed
        The only names allowed; None allows any that stay inside.

    Returns
    -------
    Path
        A file or folder, which need not exist.

    Raises
    ------
    UnsafeNameError
        It is not such a name. The text says what is wrong, such as 'names "../x", which leads outside its folder'.
    """
    if not isinstance(name, str):
        raise UnsafeNameError(f"has {_short(name)} where a file name is needed")
    if allowed is not None and name not in allowed:
        raise UnsafeNameError(f"names {_short(name)}, which is not among the files that belong to it")
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise UnsafeNameError(f"names {_short(name)}, which leads outside its folder")
    if any(character in _FORBIDDEN or ord(character) < 32 for character in name):
        raise UnsafeNameError(f"names {_short(name)}, which has characters that are not allowed in file names")
    path = folder.joinpath(*parts)
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    # A loop of links; bytes that are not text; a name that is too long.
    except (OSError, RuntimeError, ValueError) as error:
        raise UnsafeNameError(f"names {_short(name)}, which cannot be followed") from error
    if not stays:
        raise UnsafeNameError(f"names {_short(name)}, which is a link that leads outside its folder")
    return path


def read_regular(path: Path, most: int = RECORD_BYTES) -> bytes:
    """Read a whole file of limited size.

    Parameters
    ----------
    path
        A regular file; pipes and devices, which may never end, are not opened for reading.
    most
        Maximum size in bytes.

    Raises
    ------
    OSError
        It does not exist or cannot be read.
    ValueError
        It is not a regular file, or larger.
    """
    # Without waiting for a writer, if it is a pipe.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        state = os.fstat(number)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        if state.st_size > most:
            raise ValueError(f"{path.name} has {state.st_size} bytes; at most {most} are expected")
        with os.fdopen(number, "rb", closefd=False) as stream:
            return stream.read(most)
    finally:
        os.close(number)


def json_object(content: bytes | str, *, strict: bool = False) -> dict[str, Any]:
    """Parse JSON whose outermost value is an object.

    Parameters
    ----------
    strict
        Whether NaN and infinite numbers are refused, which Python's parser takes beyond the standard.

    Raises
    ------
    ValueError
        It is something else, or nested too deeply.
    """
    number = _finite if strict else float
    try:
        values = json.loads(content, parse_constant=number, parse_float=number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("its outermost value is not an object")
    return values


def _finite(text: str) -> float:
    """Return a number, which may be too large for one, or "NaN"."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"a number in it is {text[:_SHOWN]}")
    return number


def toml_table(content: bytes) -> dict[str, Any]:
    """Parse TOML.

    Raises
    ------
    ValueError
        It is none, is nested too deeply, or holds numbers beyond 64 bits, which TOML does not have, or a character 0,
        which no name of a file may have.
    """
    text = content.decode()
    # The parser takes the square of their number for the parts of a name.
    if any(line.count(".") > _MOST_PARTS for line in text.splitlines()):
        raise ValueError("a name in it has too many parts")
    try:
        table = tomllib.loads(text)
        _check_values(table)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return table


def _check_values(value: Any) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_values(inner)
    elif is_number(value) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a whole number in it has more than 64 bits")
    elif isinstance(value, str) and "\0" in value:
        raise ValueError("a text in it contains the character 0")


def printable(text: str, keep: str = "") -> str:
    """Return text with "?" for what a terminal would obey or could not show; `keep` are letters that stay."""
    return "".join(letter if letter.isprintable() or letter in keep else "?" for letter in text)


def is_number(value: object) -> bool:
    """Whether a value read from a file is an integer; ``true`` is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_sha256(value: object) -> bool:
    """Whether a value read from a file is a digest in this program's form: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef")


def _short(value: object) -> str:
    text = json.dumps(value, default=str) if isinstance(value, str) else f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
