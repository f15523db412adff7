"""The families of files: small good ones, and what is done with a damaged one."""

import gzip
import hashlib
import os
import shutil
import signal
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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


def _voxels():
    return np.random.default_rng(1).integers(-1000, 2000, SHAPE, dtype=np.int16)


def _digest(scan):
    voxels = np.ascontiguousarray(scan.voxels)
    place = repr(
        (voxels.shape, str(voxels.dtype), scan.spacing_mm, scan.origin_mm, np.asarray(scan.direction).tolist())
    )
    return hashlib.sha256(voxels.tobytes() + place.encode()).hexdigest()


def _single(path, head, sealed=False):
    return Seed(path, [path], {path: head}, [path] if sealed else [])


def nii(folder):
    from napari_restore_rwkv.scans.files import write_scan
    from napari_restore_rwkv.scans.scan import Scan

    scan = Scan(_voxels(), (2.5, 0.7, 0.9), (-1.0, 2.0, 3.0))
    write_scan(scan, folder / "a.nii")
    write_scan(scan, folder / "b.nii.gz")
    # A gzip stream of its header alone can be damaged where it is not seen by the checksum of the voxels.
    content = gzip.decompress((folder / "b.nii.gz").read_bytes())
    (folder / "c.nii.gz").write_bytes(gzip.compress(content[:352]) + gzip.compress(content[352:]))
    return [_single(folder / "a.nii", 352), _single(folder / "b.nii.gz", 20, True), _single(folder / "c.nii.gz", 200)]


def mha(folder):
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {}\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -11 22 33\nElementSpacing = 0.7 0.9 2.5\nDimSize = 10 8 3\n"
        "ElementType = MET_SHORT\nElementDataFile = {}\n"
    )
    raw = _voxels().tobytes()
    plain, packed, detached = (folder / name for name in ("a.mha", "b.mha", "c.mhd"))
    plain.write_bytes(head.format("False", "LOCAL").encode() + raw)
    packed.write_bytes(head.format("True", "LOCAL").encode() + zlib.compress(raw))
    detached.write_bytes(head.format("False", "c.raw").encode())
    (folder / "c.raw").write_bytes(raw)
    sizes = [len(head.format(*words)) for words in (("False", "LOCAL"), ("True", "LOCAL"), ("False", "c.raw"))]
    return [_single(plain, sizes[0]), _single(packed, sizes[1], True), _single(detached, sizes[2])]


def nrrd(folder):
    import bz2

    raw, seeds = _voxels().tobytes(), []
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
        seeds.append(_single(folder / name, len(head), name in {"b.nrrd", "c.nrrd"}))
    for number, part in enumerate(_voxels(), 1):
        (folder / f"d{number:02}.raw").write_bytes(part.tobytes())
    return seeds


def tiff(folder):
    import tifffile

    stack, seeds = _voxels().astype(np.uint16), []
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
        seeds.append(_single(folder / name, (folder / name).stat().st_size))
    return seeds


def dicom(folder):
    sys.path.insert(0, str(Path(__file__).parent.parent / "scans"))
    from dicoms import write_series

    slices = _voxels().astype(np.uint16) % 3000
    series = write_series(folder / "series", slices, names="cba")
    names = sorted(series.iterdir())
    return [Seed(series, names[:1], {names[0]: 1200})]


def hdf5(folder):
    import SimpleITK as sitk

    seeds = []
    for name, packed in (("a.h5", False), ("b.h5", True)):
        image = sitk.GetImageFromArray(_voxels())
        image.SetSpacing([0.7, 0.9, 2.5])
        sitk.WriteImage(image, str(folder / name), useCompression=packed)
        seeds.append(_single(folder / name, 12_000))
    return seeds


def zarr(folder):
    import zarr as library
    from numcodecs import Blosc, GZip
    from zarr.codecs import BloscCodec, ZstdCodec

    from napari_restore_rwkv.scans.scan import Scan
    from napari_restore_rwkv.scans.zarr_write import choose_layout, create_image, write_slab

    voxels, seeds = _voxels(), []
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


def _small_network():
    import torch

    from napari_restore_rwkv.network.checkpoint import Card
    from napari_restore_rwkv.network.model import RestoreRWKV

    torch.manual_seed(0)
    card = Card(title="small", task="ct-denoise", modality="CT", details={"verdict": {"accepted": True}})
    return RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1).eval(), card


def weights(folder):
    import torch

    from napari_restore_rwkv.network.checkpoint import save_checkpoint

    network, card = _small_network()
    save_checkpoint(network, card, folder / "a.safetensors")
    torch.save(network.state_dict(), folder / "b.pth")
    return [
        _single(folder / "a.safetensors", 6000),
        Seed(folder / "b.pth", [folder / "b.pth"], {folder / "b.pth": 9000}),
    ]


def bundles(folder):
    from napari_restore_rwkv.training.bundle import save_bundle

    network, card = _small_network()
    made = save_bundle(folder / "made", card, weights=network.state_dict(), picture=b"png")
    with zipfile.ZipFile(made) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    # The archive in pieces, so that what is inside of it can be damaged, too.
    parts = folder / "parts"
    parts.mkdir()
    for name, content in contents.items():
        (parts / name).write_bytes(content)
    return [_single(made, 300), Seed(parts, sorted(parts.iterdir()))]


def ledger(folder):
    import torch

    from napari_restore_rwkv.jobs.job import restore_to_zarr
    from napari_restore_rwkv.progress import finish
    from napari_restore_rwkv.scans.scan import Scan

    torch.set_num_threads(1)
    network, card = _small_network()
    network.card = card
    scan = Scan(
        np.random.default_rng(1).integers(-1000, 1500, (4, 16, 16), dtype=np.int16), (5.0, 0.8, 0.8), modality="CT"
    )
    path = folder / "result.ome.zarr"
    finish(restore_to_zarr(scan, network, path, slices_per_slab=2))
    targets = [
        path / "job" / "job.json",
        path / "job" / "done.jsonl",
        path / "job" / "complete.json",
        path / "zarr.json",
    ]
    return [Seed(path, targets, {target: target.stat().st_size for target in targets})]


def toml(folder):
    from napari_restore_rwkv.commands.parser import EXAMPLE

    text = EXAMPLE.split("\n\n", 1)[1].replace("\n  # ", "\n  ")
    path = folder / "a.toml"
    path.write_text(text, "utf-8")
    return [_single(path, len(text))]


def _read_scan(path, thorough):
    from napari_restore_rwkv.scans.files import read_scan

    return _digest(read_scan(path, modality="CT"))


def _read_both(path, thorough):
    """Read a file as a whole, and sometimes lazily; where both read it, it has to come to the same."""
    from napari_restore_rwkv.errors import RestoreError
    from napari_restore_rwkv.scans.opening import open_scan

    def tried(read):
        try:
            return read(), None
        except RestoreError as error:
            return None, error

    eager, error = tried(lambda: _read_scan(path, thorough))
    if thorough:
        lazy, _ = tried(lambda: _digest(open_scan(path, modality="CT", large=0)))
        if None not in (lazy, eager) and lazy != eager:
            raise AssertionError("the lazy reader gives something else than the eager one")
    if error is not None:
        raise error
    return eager


def _read_weights(path, thorough):
    import torch

    from napari_restore_rwkv.network.checkpoint import load_checkpoint

    network = load_checkpoint(path)
    network.to(torch.device("cpu"))
    return ""


def _read_bundle(path, thorough):
    from napari_restore_rwkv.training.bundle import available_bundles

    if path.is_dir():
        made = path.parent / f"{path.name}.restorerwkv"
        with zipfile.ZipFile(made, "w") as archive:
            for file in sorted(path.iterdir()):
                archive.writestr(file.name, file.read_bytes())
        path = made
    available_bundles(path.parent)
    return _read_weights(path, thorough)


def _read_ledger(path, thorough):
    from napari_restore_rwkv.errors import RestoreError
    from napari_restore_rwkv.jobs.audit import finalize, verify
    from napari_restore_rwkv.jobs.ledger import Ledger
    from napari_restore_rwkv.progress import finish

    steps = [lambda: finish(verify(path)), lambda: _read_scan(path, thorough)]
    steps += [lambda: finish(finalize(path)), lambda: Ledger(path).clean()] if thorough else []
    refused = None
    for step in steps:
        try:
            step()
        except RestoreError as error:
            refused = error
    if refused is not None:
        raise refused
    return ""


def _read_toml(path, thorough):
    from napari_restore_rwkv.commands import finetune

    config = finetune._read(path)
    finetune._options(config, "cpu")
    return ""


@dataclass(frozen=True)
class Family:
    """How the good files of a family are made, and what is done with a damaged one."""

    make: object
    read: object


FAMILIES = {
    "nii": Family(nii, _read_both),
    "nrrd": Family(nrrd, _read_both),
    "mha": Family(mha, _read_both),
    "tiff": Family(tiff, _read_both),
    "dicom": Family(dicom, _read_scan),
    "hdf5": Family(hdf5, _read_scan),
    "zarr": Family(zarr, _read_scan),
    "weights": Family(weights, _read_weights),
    "bundles": Family(bundles, _read_bundle),
    "ledger": Family(ledger, _read_ledger),
    "toml": Family(toml, _read_toml),
}


def pretended(what):
    """Return a family whose second input does what may not happen, for the test of the watch."""
    seen = []

    def make(folder):
        (folder / "a").write_bytes(bytes(100))
        return [_single(folder / "a", 1, what == "silent")]

    def read(path, thorough):
        seen.append(path)
        # The good file comes first.
        if len(seen) != 3:
            return ""
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif what == "hang":
            time.sleep(1000)
        elif what == "memory":
            np.ones(2300 << 20, np.uint8)
        elif what == "raw":
            raise ValueError("not a sentence")
        return "other"

    return Family(make, read)


def copied(source, target):
    """Put a copy of a good file or folder in a place."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
