"""Grey pictures as PNG, written by hand (ISO/IEC 15948), so that no imaging library is needed."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def grey_png(image: np.ndarray, low: float, high: float) -> bytes:
    """Encode an image (Y, X) as an 8-bit grey PNG, `low` black and `high` white; non-finite values are black."""
    spread = high - low if high > low else 1.0
    levels = np.nan_to_num((np.asarray(image, np.float64) - low) / spread, posinf=0, neginf=0)
    pixels = (levels.clip(0, 1) * 255).round().astype(np.uint8)
    height, width = pixels.shape
    # Each row begins with its filter, 0 for none.
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND")


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
