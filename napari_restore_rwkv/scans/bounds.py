"""How much memory the voxels of a file may take, decided from its header before anything is allocated."""

from __future__ import annotations

import psutil  # type: ignore[import-untyped]

from ..errors import ScanError

# Deflate, the method of gzip and zlib, cannot compress 1032 bytes to less than one.
DEFLATE_RATIO = 1032
# Real scans shrink to a third; an empty one of this size is useless in memory.
_LARGE = 1 << 30
_LARGEST_RATIO = 200
# Of a JSON file beside voxels; those of large volumes have some kilobytes.
LARGEST_METADATA = 64 << 20


def check_memory(name: str, needed: int, stored: int) -> None:
    """Raise ScanError if voxels do not fit in memory, or are a small file that unpacks to a very large one.

    Parameters
    ----------
    name
        Of the scan.
    needed
        Bytes of its voxels in memory.
    stored
        Bytes of the packed data.
    """
    if needed > _LARGE and needed > _LARGEST_RATIO * stored:
        raise ScanError(
            f"{name} would unpack {stored / 1e6:.3g} MB to {needed / 1e6:.0f} MB, which no scan does; "
            "unpack it yourself if you trust it, or export it again."
        )
    free = psutil.virtual_memory().available
    if needed > free:
        raise ScanError(
            f"{name} does not fit into memory: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
            "crop it, or close other programs."
        )
