"""Errors for files that cannot be read, each worded the same way everywhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import ScanError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors on reading into a ScanError."""
    try:
        yield
    except PermissionError as error:
        raise ScanError(f"{path.name} cannot be read: permission denied; ask for read permission.") from error
    except OSError as error:
        raise ScanError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise ScanError(f"{path.name} does not fit into memory; crop it, or close other programs.") from error


def broken(path: Path, why: str) -> ScanError:
    """Return the error for a file that is not what its name says, is incomplete, or has vanished meanwhile."""
    if not path.exists():
        return ScanError(f"{path.name} cannot be read: it is no longer there; put it back.")
    return ScanError(f"{path.name} cannot be read: {why}; copy or export it again.")


def colour(path: Path) -> ScanError:
    """Return the error for a colour image."""
    return ScanError(f"{path.name} is a colour (RGB) image; give a scan with one value per voxel.")


def complex_valued(path: Path) -> ScanError:
    """Return the error for complex voxels."""
    return ScanError(f"{path.name} contains complex numbers; save its magnitude and give that.")


def vector(path: Path, count: int) -> ScanError:
    """Return the error for several values per voxel."""
    return ScanError(
        f"{path.name} contains {count} values per voxel (colour, vectors or real and imaginary parts); "
        "give a scan with one value per voxel."
    )


def cut_off(path: Path, found: int, expected: int) -> ScanError:
    """Return the error for a file with fewer bytes of voxels than its header says."""
    return broken(path, f"it is cut off ({max(found, 0)} of {expected} bytes of voxels are there)")


def check_sizes(path: Path, sizes: Sequence[int]) -> None:
    """Raise ScanError for a header without voxels."""
    if not sizes or min(sizes) < 1:
        raise ScanError(f"{path.name} is empty: its header gives {by(sizes)} voxels.")


def by(sizes: Sequence[int]) -> str:
    """Return sizes as in "30 x 20 x 6"."""
    return " x ".join(str(size) for size in sizes) or "no"
