"""Digests of input voxels, slice by slice, so that the order in which slices are read makes no difference."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable


def slice_digest(image: np.ndarray) -> str:
    """Sha256 of the voxels of a slice (Y, X)."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def combined_digest(digests: Iterable[str]) -> str:
    """Sha256 over the digests of all slices, in the order of their index; the same as that of `InputDigest`."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()
