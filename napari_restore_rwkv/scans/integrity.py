"""Whether a MetaImage or NRRD file is whole, checked before ITK reads it, which goes on after a broken zlib stream."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

from ..errors import ScanError
from .geometry import bad_geometry

_BLOCK = 1 << 20
_LONGEST_TEXT_HEADER = 1 << 20
META_BYTES = {
    "CHAR": 1,
    "UCHAR": 1,
    "SHORT": 2,
    "USHORT": 2,
    "INT": 4,
    "UINT": 4,
    "LONG": 4,
    "ULONG": 4,
    "LONG_LONG": 8,
    "ULONG_LONG": 8,
    "FLOAT": 4,
    "DOUBLE": 8,
}


def broken(path: Path, why: str) -> ScanError:
    """Return the error for a file that is not what its name says, or not all of it."""
    return ScanError(f"{path.name} cannot be read: {why}; copy or export it again.")


def check_metaimage(path: Path) -> None:
    """Raise ScanError unless a MetaImage (.mha, .mhd) and its voxel file hold all of their voxels."""
    fields, header_bytes = text_header(path, "=", last="elementdatafile")
    if "dimsize" not in fields or "elementdatafile" not in fields:
        raise broken(path, "it has no MetaImage header, so it is another kind of file or cut off")
    sizes = [int(size) for size in fields["dimsize"].split() if size.isdigit()]
    if not sizes or min(sizes) < 1:
        raise ScanError(f"{path.name} is empty: its header gives {by(sizes)} voxels.")
    # ITK turns a NaN offset into 0.
    _check_numbers(path, "voxel size", fields.get("elementspacing", fields.get("elementsize", "")), nonzero=True)
    for name in ("offset", "position", "origin", "transformmatrix", "rotation", "orientation"):
        _check_numbers(path, name, fields.get(name, ""))
    voxel_bytes = META_BYTES.get(fields.get("elementtype", "").removeprefix("MET_").removesuffix("_ARRAY"))
    text = fields.get("binarydata", "true").lower().startswith("f")
    listed = fields["elementdatafile"].upper().startswith("LIST") or "%" in fields["elementdatafile"]
    if voxel_bytes is None or text or listed:
        raise ScanError(
            f"{path.name} is a MetaImage of a rare kind (text, a list of files, or an unknown voxel type); "
            "save it as a plain .mha, .nrrd or .nii.gz file."
        )
    local = fields["elementdatafile"].upper() == "LOCAL"
    data = path if local else companion(path, fields["elementdatafile"])
    start = header_bytes if local else int(fields.get("headersize", "0"))
    expected = math.prod(sizes) * int(fields.get("elementnumberofchannels", "1")) * voxel_bytes
    if fields.get("compresseddata", "").lower().startswith("t"):
        _check_zlib(path, data, start, expected)
        return
    found = data.stat().st_size - max(start, 0)
    if found < expected:
        raise cut_off(path, found, expected)


def check_nrrd(path: Path) -> None:
    """Raise ScanError unless this is NRRD and its gzip stream, if any, is whole; ITK itself counts raw voxels."""
    fields, header_bytes = text_header(path, ":", last="")
    if "nrrd" not in fields:
        raise broken(path, "it has no NRRD header, so it is another kind of file or cut off")
    sizes = fields.get("sizes", "").split()
    if "0" in sizes:
        raise ScanError(f"{path.name} is empty: its header gives {by(sizes)} voxels.")
    # ITK turns a NaN spacing into 1 mm. An axis after the third is time, which may have none.
    spacings = " ".join(fields.get("spacings", "").split()[:3])
    _check_numbers(path, "voxel size", spacings, nonzero=True)
    for vector_text in re.findall(r"\(([^)]*)\)", fields.get("space directions", "")):
        vector_values = _check_numbers(path, "space direction", vector_text)
        if not any(vector_values):
            raise bad_geometry(path, f"its space direction is {vector_text}")
    _check_numbers(path, "space origin", fields.get("space origin", "").strip("()"))
    name = fields.get("data file", fields.get("datafile", ""))
    if name.upper().startswith("LIST") or "%" in name:
        return
    data = companion(path, name) if name else path
    if fields.get("encoding", "").lower() in {"gzip", "gz"} and "line skip" not in fields:
        _check_zlib(path, data, 0 if name else header_bytes, 0)


def colour(path: Path) -> ScanError:
    """Return the error for a colour image."""
    return ScanError(f"{path.name} is a colour (RGB) image; give a scan with one value a voxel.")


def complex_valued(path: Path) -> ScanError:
    """Return the error for complex voxels."""
    return ScanError(f"{path.name} holds complex numbers; save its magnitude and give that.")


def vector(path: Path, count: int) -> ScanError:
    """Return the error for several values a voxel."""
    return ScanError(
        f"{path.name} holds {count} values a voxel (colour, vectors or real and imaginary parts); "
        "give a scan with one value a voxel."
    )


def text_header(path: Path, separator: str, last: str) -> tuple[dict[str, str], int]:
    """Return the fields of a text header (names in lower case) and where it ends in the file."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        for line in iter(lambda: stream.readline(4096), b""):
            text = line.decode("latin-1").strip()
            if text.startswith("NRRD0"):
                fields["nrrd"] = text
            name, found, value = text.partition(separator)
            if found:
                fields[name.strip().lower()] = value.strip()
            if (last and name.strip().lower() == last) or not (last or text):
                break
            if stream.tell() > _LONGEST_TEXT_HEADER:
                break
        return fields, stream.tell()


def _check_numbers(path: Path, what: str, text: str, *, nonzero: bool = False) -> list[float]:
    """Return the numbers of a header field; ScanError unless all are finite and, if asked for, none is 0."""
    values = [float(word) for word in text.replace(",", " ").split()]
    if not all(math.isfinite(value) and (value or not nonzero) for value in values):
        raise bad_geometry(path, f"its {what} is {text}")
    return values


def companion(path: Path, name: str) -> Path:
    """Return the file of voxels that a header names; ScanError where it is not there."""
    data = path.parent / name
    if not data.is_file():
        raise ScanError(f"{path.name} keeps its voxels in {Path(name).name}, which is missing; put it beside it.")
    return data


def _check_zlib(shown: Path, data: Path, start: int, expected: int) -> None:
    """Decompress to nowhere: the checksum must hold and at least `expected` bytes must come out."""
    # 32 + MAX_WBITS takes a zlib and a gzip header alike; MetaImage and NRRD use one each.
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
    count = 0
    with data.open("rb") as stream:
        stream.seek(max(start, 0))
        try:
            while not unpacker.eof and (block := stream.read(_BLOCK)):
                count += len(unpacker.decompress(block))
        except zlib.error as error:
            raise broken(shown, "its compressed voxels are damaged") from error
    if not unpacker.eof:
        raise broken(shown, "it is cut off (its compressed voxels do not end)")
    if count < expected:
        raise cut_off(shown, count, expected)


def cut_off(path: Path, found: int, expected: int) -> ScanError:
    """Return the error for a file with fewer bytes of voxels than its header promises."""
    return broken(path, f"it is cut off ({max(found, 0)} of {expected} bytes of voxels are there)")


def by(sizes: list[int] | list[str]) -> str:
    """Return sizes as in "30 x 20 x 6"."""
    return " x ".join(str(size) for size in sizes) or "no"
