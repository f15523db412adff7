"""The families of files: small good ones, and what is done with a damaged one."""

import hashlib
import os
import shutil
import signal
import time
import zipfile
from dataclasses import dataclass

import numpy as np

from .scan_files import Seed, dicom, dicom_frames, dicom_packed, hdf5, mha, nii, nrrd, single, tiff, zarr


def _digest(scan):
    voxels = np.ascontiguousarray(scan.voxels)
    place = repr(
        (voxels.shape, str(voxels.dtype), scan.spacing_mm, scan.origin_mm, np.asarray(scan.direction).tolist())
    )
    return hashlib.sha256(voxels.tobytes() + place.encode()).hexdigest()


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
        single(folder / "a.safetensors", 6000),
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
    return [single(made, 300), Seed(parts, sorted(parts.iterdir()))]


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
    from napari_restore_rwkv.commands.training_words import EXAMPLE

    text = EXAMPLE.split("\n\n", 1)[1].replace("\n  # ", "\n  ")
    path = folder / "a.toml"
    path.write_text(text, "utf-8")
    return [single(path, len(text))]


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
    "dicom_frames": Family(dicom_frames, _read_scan),
    "dicom_packed": Family(dicom_packed, _read_scan),
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
        return [single(folder / "a", 1, what == "silent")]

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
