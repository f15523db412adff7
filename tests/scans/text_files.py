"""MetaImage and NRRD files written line by line, for the tests of our readers."""

import numpy as np

VOXELS = np.random.default_rng(5).integers(-1000, 2000, (4, 5, 6), dtype=np.int16)


def metaimage(path, *lines, voxels=None, **fields):
    """Write a .mha; keyword arguments replace fields of a good one, None takes a field away."""
    known = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "ElementSpacing": "0.7 0.9 2.5",
        "DimSize": "6 5 4",
        "ElementType": "MET_SHORT",
    }
    last = {"ElementDataFile": "LOCAL"}
    known |= {name: value for name, value in fields.items() if name not in last}
    last |= {name: value for name, value in fields.items() if name in last}
    text = [f"{name} = {value}" for name, value in (known | last).items() if value is not None]
    text[-1:-1] = lines
    path.write_bytes("\n".join([*text, ""]).encode("latin-1") + (VOXELS.tobytes() if voxels is None else voxels))
    return path


def nrrd(path, *lines, voxels=None, **fields):
    """Write a .nrrd; keyword arguments replace fields of a good one, by names without spaces; None takes one away."""
    known = {
        "type": "short",
        "dimension": "3",
        "sizes": "6 5 4",
        "endian": "little",
        "encoding": "raw",
        **fields,
    }
    text = ["NRRD0005", *(f"{name}: {value}" for name, value in known.items() if value is not None), *lines]
    path.write_bytes("\n".join([*text, "", ""]).encode("latin-1") + (VOXELS.tobytes() if voxels is None else voxels))
    return path
