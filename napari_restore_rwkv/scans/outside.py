"""Files that a scan refers to: they must be in its own folder, unless the user allows others.

A header that names /etc/passwd, or ../../private.raw, could otherwise copy any file on this computer into voxels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ScanError
from ..untrusted import printable

if TYPE_CHECKING:
    from pathlib import Path


def companion(path: Path, name: str, allow_outside: bool = False) -> Path:
    """Return the file of voxels that a header names.

    Parameters
    ----------
    path
        The file with the header.
    name
        What the header says, relative to the folder of `path`.
    allow_outside
        Whether the file may be in another folder.

    Raises
    ------
    ScanError
        The file does not exist, is not a regular file, or is outside, by its name or through a symbolic link.
    """
    try:
        data = path.parent / name
        missing = not data.is_file()
    # A name with a null byte, or one that is too long.
    except (ValueError, OSError):
        missing = True
    if not allow_outside and (outside := _outside(path, name)):
        raise ScanError(outside)
    if missing:
        raise ScanError(
            f"{path.name} keeps its voxels in {_printable(name)}, which is missing; put that file beside it."
        )
    return data


def check_inside(path: Path, root: Path, file: Path) -> None:
    """Raise ScanError if `file`, after following symbolic links, is outside the folder `root`; `path` is the scan."""
    if not is_inside(root, file):
        raise ScanError(_outside_message(path.name, f"symbolic link {file.name}"))


def is_inside(root: Path, file: Path) -> bool:
    """Whether a file, after following symbolic links, is in a folder or below it."""
    try:
        return file.resolve().is_relative_to(root.resolve())
    # A loop of links.
    except (OSError, RuntimeError, ValueError):
        return False


def _outside(path: Path, name: str) -> str:
    """Return what is wrong with a name that leaves the folder of `path`, or ""."""
    if "\0" in name or is_inside(path.parent, path.parent / name):
        return ""
    return _outside_message(path.name, _printable(name))


def _outside_message(scan: str, what: str) -> str:
    return (
        f"{scan} refers to {what} outside its own folder, which is not read, since a scan from elsewhere could copy "
        "any file on this computer into its voxels; move the file beside the scan, or use --allow-outside-files."
    )


def _printable(name: str) -> str:
    shown = name.replace("\\", "/").rsplit("/", 1)[-1][:80]
    return printable(shown) or "a file without a name"
