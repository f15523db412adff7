"""Files that are completely on disk when the call returns, or not there at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..untrusted import UnsafeNameError
from .temporary import TemporaryFolder
from .uninterrupted import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTIAL = ".partial"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on disk."""
    # Opened for writing, because Windows syncs no other files.
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk; does nothing where folders cannot be opened."""
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_written(root: Path, files: list[Path]) -> None:
    """Wait for files and for the names of every folder from theirs up to `root`."""
    folders = set()
    for file in files:
        sync_file(file)
        folder = file.parent
        while folder != root:
            folders.add(folder)
            folder = folder.parent
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        sync_folder(folder)
    sync_folder(root)


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file, replacing any old one, so that one of the two survives a crash."""
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_output(path: Path, content: bytes) -> None:
    """Write a whole file that the user has named, replacing any old one.

    Raises
    ------
    OutputError
        It cannot be written; an old one is as it was.
    """
    try:
        # What a killed process leaves there goes with the next one.
        with TemporaryFolder(path.parent) as folder:
            made = folder / path.name
            made.write_bytes(content)
            sync_file(made)
            os.replace(made, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def put_in_place(file: Path, target: Path, overwrite: bool) -> None:
    """Give a finished file its name on the same file system, atomically.

    Raises
    ------
    FileExistsError
        A file of this name already exists and must not be replaced; of several processes that use the same name at
        the same time, all but one get this.
    OSError
        The file cannot be moved there.
    """
    if overwrite:
        os.replace(file, target)
        return
    with uninterrupted():
        try:
            os.link(file, target)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links: the process that creates the empty file may replace it.
            target.open("xb").close()
            os.replace(file, target)
        else:
            file.unlink()


def check_folder_of(path: Path) -> None:
    """Raise OutputError unless the folder exists that a new file or folder would be in."""
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist: create it first, or choose another.")


def sha256_of(path: Path) -> str:
    """Digest of a file, read block by block."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def creating_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors on writing a new file or folder into an OutputError."""
    try:
        yield
    except FileExistsError as error:
        raise OutputError(
            f"{path.name} cannot be written: another program has just written a file of that name; choose another "
            "folder or name."
        ) from error
    except OSError as error:
        raise unwritable(path.name, error) from error


@contextlib.contextmanager
def writing_errors(name: str, then: str = "") -> Iterator[None]:
    """Turn the system's errors on writing into an OutputError.

    `then` says how to continue once there is space; without it, the job is resumed. A folder of the output that is a
    link to somewhere else is refused with a clear message, too.
    """
    try:
        yield
    except UnsafeNameError as error:
        raise OutputError(
            f"{name} cannot be written: it {error}. It may have been forged; write to a new one."
        ) from error
    except OSError as error:
        remedy = "free some space" if error.errno in _FULL else "put that right"
        raise OutputError(
            f"{name} cannot be written any further: {_cause(error)}. Finished work is kept",
            f"{remedy}, then {then}" if then else remedy,
            resumable=not then,
        ) from error


def _cause(error: OSError) -> str:
    return "no space is left on the disk" if error.errno in _FULL else (error.strerror or str(error)).lower()


def unwritable(name: str | Path, error: OSError) -> OutputError:
    """Return what to tell the user where the system does not let a new file or folder be written."""
    remedy = "free some space or choose another folder" if error.errno in _FULL else "choose another folder or name"
    return OutputError(f"{name} cannot be written ({_cause(error)}): {remedy}.")
