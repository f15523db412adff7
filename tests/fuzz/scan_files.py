"""Small good files of every kind of scan, to be damaged."""

import bz2
import functools
import gzip
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import tifffile
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

sys.path.insert(0, str(Path(__file__).parent.parent / "scans"))

SHAPE = (3, 8, 10)


@dataclass
class Seed:
    """A good file or folder.

    Attributes
    ----------
    path
        What is read.
    targets
        The files in it that are damaged.
    heads
        How many of the first bytes of each say what the rest is.
    sealed
        Files of which a checksum covers everything behind the head, so that no flipped bit may go unnoticed there.
    """

    path: Path
    targets: list[Path]
    heads: dict[Path, int] = field(default_factory=dict)
    sealed: list[Path] = field(default_factory=list)

    def head(self, target):
        return self.heads.get(target, 400)


def small_voxels():
    """Return the voxels of all of them."""
    return np.random.default_rng(1).integers(-1000, 2000, SHAPE, dtype=np.int16)


def single(path, head, sealed=False):
    return Seed(path, [path], {path: head}, [path] if sealed else [])


def nii(folder):
    from napari_restore_rwkv.scans.files import write_scan
    from napari_restore_rwkv.scans.scan import Scan

    scan = Scan(small_voxels(), (2.5, 0.7, 0.9), (-1.0, 2.0, 3.0))
    write_scan(scan, folder / "a.nii")
    write_scan(scan, folder / "b.nii.gz")
    # A gzip stream of its header alone can be damaged where it is not seen by the checksum of the voxels.
    content = gzip.decompress((folder / "b.nii.gz").read_bytes())
    (folder / "c.nii.gz").write_bytes(gzip.compress(content[:352]) + gzip.compress(content[352:]))
    return [single(folder / "a.nii", 352), single(folder / "b.nii.gz", 20, True), single(folder / "c.nii.gz", 200)]


def mha(folder):
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {}\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -11 22 33\nElementSpacing = 0.7 0.9 2.5\nDimSize = 10 8 3\n"
        "ElementType = MET_SHORT\nElementDataFile = {}\n"
    )
    raw = small_voxels().tobytes()
    plain, packed, detached = (folder / name for name in ("a.mha", "b.mha", "c.mhd"))
    plain.write_bytes(head.format("False", "LOCAL").encode() + raw)
    packed.write_bytes(head.format("True", "LOCAL").encode() + zlib.compress(raw))
    detached.write_bytes(head.format("False", "c.raw").encode())
    (folder / "c.raw").write_bytes(raw)
    sizes = [len(head.format(*words)) for words in (("False", "LOCAL"), ("True", "LOCAL"), ("False", "c.raw"))]
    return [single(plain, sizes[0]), single(packed, sizes[1], True), single(detached, sizes[2])]


def nrrd(folder):
    raw, seeds = small_voxels().tobytes(), []
    for name, encoding, pack in (
        ("a.nrrd", "raw", bytes),
        ("b.nrrd", "gzip", gzip.compress),
        ("c.nrrd", "bzip2", bz2.compress),
        ("d.nhdr", "raw", None),
    ):
        head = (
            "NRRD0005\n# comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 10 8 3\n"
            "space directions: (0.7,0,0) (0,0.9,0) (0,0,2.5)\nkinds: domain domain domain\nendian: little\n"
            f'encoding: {encoding}\nspace origin: (1,2,3)\nspace units: "mm" "mm" "mm"\nModality:=CT\n'
        )
        head += "data file: d%02d.raw 1 3 1\n" if pack is None else "\n"
        (folder / name).write_bytes(head.encode() + (pack(raw) if pack else b""))
        seeds.append(single(folder / name, len(head), name in {"b.nrrd", "c.nrrd"}))
    for number, part in enumerate(small_voxels(), 1):
        (folder / f"d{number:02}.raw").write_bytes(part.tobytes())
    return seeds


def tiff(folder):
    stack, seeds = small_voxels().astype(np.uint16), []
    for name, options in (
        (
            "a.tif",
            {"imagej": True, "resolution": (1.4, 1.1), "metadata": {"spacing": 2.5, "unit": "mm", "axes": "ZYX"}},
        ),
        ("b.tif", {"compression": "zlib", "predictor": True}),
        ("c.tif", {"compression": "lzw", "tile": (16, 16), "bigtiff": True}),
        ("d.ome.tif", {"metadata": {"axes": "ZYX", "PhysicalSizeX": 700, "PhysicalSizeY": 900, "PhysicalSizeZ": 2500}}),
        ("e.tif", {"compression": "packbits", "byteorder": ">", "rowsperstrip": 3}),
    ):
        tifffile.imwrite(folder / name, stack, photometric="minisblack", **options)
        seeds.append(single(folder / name, (folder / name).stat().st_size))
    return seeds


def dicom(folder):
    from dicoms import write_series

    series = write_series(folder / "series", _stored(), names="cba")
    names = sorted(series.iterdir())
    return [Seed(series, names[:1], {names[0]: 1200})]


def dicom_frames(folder):
    """Make files with all slices in one: mosaics, enhanced files, and one that is deflated as a whole."""
    from dicoms import CORNER, GAP, NORMAL, pet_tags, write_slice
    from mosaics import write_mosaic
    from test_dicom_enhanced import frame, group, write_enhanced

    slices = _stored()
    slopes = [group(RescaleSlope=1.0 + index, RescaleIntercept=-10.0) for index in range(len(slices))]
    plain = [frame(CORNER + index * GAP * NORMAL) for index in range(len(slices))]
    scaled = [
        frame(CORNER + index * GAP * NORMAL, PixelValueTransformationSequence=slope)
        for index, slope in enumerate(slopes)
    ]
    paths = [
        write_mosaic(folder / "mosaic.dcm", slices, CORNER),
        write_enhanced(folder / "ct.dcm", slices, plain, "CT"),
        write_enhanced(folder / "pet.dcm", slices, scaled, "PT"),
        folder / "deflated.dcm",
        folder / "deflated_ct.dcm",
    ]
    write_slice(folder / "deflated.dcm", slices[0], CORNER, **pet_tags())
    for source, target in ((folder / "deflated.dcm", "deflated.dcm"), (folder / "ct.dcm", "deflated_ct.dcm")):
        data = pydicom.dcmread(source)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(folder / target)
    return [single(path, min(2600, path.stat().st_size)) for path in paths]


def dicom_packed(folder):
    """Make slices packed by every codec for which there is an encoder, and one file with several packed frames."""
    from dicoms import CORNER, GAP, NORMAL, write_slice
    from test_dicom_enhanced import frame, write_enhanced

    slices, seeds = _stored(), []
    picture = np.tile(slices[0], (4, 4))
    for name, syntax, pack in (
        ("rle", RLELossless, None),
        ("jpeg2000", JPEG2000Lossless, None),
        ("htj2k", HTJ2KLossless, functools.partial(imagecodecs.htj2k_encode, reversible=True)),
        ("jpegls", JPEGLSLossless, imagecodecs.jpegls_encode),
        ("jpeg", JPEGLosslessSV1, imagecodecs.ljpeg_encode),
        ("frames", JPEGLSLossless, imagecodecs.jpegls_encode),
    ):
        file = folder / f"{name}.dcm"
        if name == "frames":
            frames = [frame(CORNER + index * GAP * NORMAL) for index in range(len(slices))]
            write_enhanced(file, slices, frames)
        else:
            write_slice(file, picture, CORNER)
        data = pydicom.dcmread(file)
        if pack is None:
            data.compress(syntax)
        else:
            data.file_meta.TransferSyntaxUID = syntax
            data.PixelData = encapsulate([pack(part) for part in (slices if name == "frames" else [picture])])
            data["PixelData"].is_undefined_length = True
        data.save_as(file)
        seeds.append(single(file, file.stat().st_size))
    return seeds


def _stored():
    return small_voxels().astype(np.uint16) % 3000


def hdf5(folder):
    import SimpleITK as sitk

    seeds = []
    for name, packed in (("a.h5", False), ("b.h5", True)):
        image = sitk.GetImageFromArray(small_voxels())
        image.SetSpacing([0.7, 0.9, 2.5])
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        seeds.append(single(folder / name, 12_000))
    return seeds


def zarr(folder):
    import zarr as library
    from numcodecs import Blosc, GZip
    from zarr.codecs import BloscCodec, ZstdCodec

    from napari_restore_rwkv.scans.scan import Scan
    from napari_restore_rwkv.scans.zarr.writing import choose_layout, create_image, write_slab

    voxels, seeds = small_voxels(), []
    ours = folder / "ours.zarr"
    layout = choose_layout(SHAPE, voxels.dtype, 0)
    create_image(ours, Scan(voxels, (2.5, 0.7, 0.9)), layout)
    write_slab(ours, layout, 0, voxels)
    old = {"chunks": (1, 8, 10), "zarr_format": 2}
    library.create_array(folder / "blosc2.zarr", data=voxels, compressors=Blosc(), **old)
    library.create_array(folder / "gzip2.zarr", data=voxels, compressors=GZip(), **old)
    library.create_array(
        folder / "blosc3.zarr", data=voxels, chunks=(1, 8, 10), compressors=BloscCodec(shuffle="shuffle")
    )
    library.create_array(folder / "zstd3.zarr", data=voxels, chunks=(1, 8, 10), compressors=ZstdCodec(checksum=True))
    for path in (ours, *(folder / f"{name}.zarr" for name in ("blosc2", "gzip2", "blosc3", "zstd3"))):
        files = sorted(file for file in path.rglob("*") if file.is_file())
        texts = [file for file in files if file.name.startswith((".z", "zarr.json"))]
        chunks = [file for file in files if file not in texts]
        seeds.append(Seed(path, [*texts, chunks[0]], dict.fromkeys(texts, 2000) | {chunks[0]: 64}))
    return seeds
