"""Siemens mosaics made by hand: slices side by side in one picture, and the private header that says how many."""

import math
import struct

import numpy as np
from dicoms import COLUMN, GAP, ROW, write_slice
from pydicom.dataset import Dataset

_CREATOR, _HEADER = 0x00290010, 0x00291010

_KINDS = {"NumberOfImagesInMosaic": b"IS", "AcquisitionMatrixText": b"SH"}


def csa_header(**fields):
    """Return bytes as of a Siemens image header of the second kind; values are texts."""
    parts = [b"SV10\4\3\2\1", struct.pack("<II", len(fields), 77)]
    for name, values in fields.items():
        kind = _KINDS.get(name, b"FD")
        parts.append(struct.pack("<64si4siii", name.encode(), len(values), kind, 4, len(values), 77))
        for value in values:
            text = value.encode() + b"\0"
            parts.append(struct.pack("<iiii", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def write_mosaic(path, pixels, corner, *, sign=1, header=None, **changes):
    """Write slices (Z, Y, X) as one picture.

    Parameters
    ----------
    corner
        Centre of the first pixel of the first slice.
    sign
        1 where slices follow each other along the cross product of rows and columns, -1 where against it.
    header
        Instead of the right private header; b"" for none.
    """
    count, height, width = pixels.shape
    across = math.ceil(math.sqrt(count))
    picture = np.zeros((across * height, across * width), np.uint16)
    for index, tile in enumerate(pixels):
        row, column = divmod(index, across)
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    rows, columns = np.array(changes.get("ImageOrientationPatient", [*ROW, *COLUMN])).reshape(2, 3)
    normal = sign * np.cross(rows, columns)
    shift = (picture.shape[1] - width) / 2 * 0.9 * rows + (picture.shape[0] - height) / 2 * 0.7 * columns
    if header is None:
        header = csa_header(
            NumberOfImagesInMosaic=[str(count)],
            SliceNormalVector=[f"{value:.8f}" for value in normal],
            AcquisitionMatrixText=[f"{height}*{width}"],
        )
    tags = Dataset()
    if header:
        tags.add_new(_CREATOR, "LO", "SIEMENS CSA HEADER")
        tags.add_new(_HEADER, "OB", header)
    known = {
        "Modality": "MR",
        "Manufacturer": "SIEMENS",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        "SliceThickness": 2.0,
        "SpacingBetweenSlices": GAP,
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
    }
    write_slice(path, picture, np.asarray(corner) - shift, more=tags, **known | changes)
    return path
