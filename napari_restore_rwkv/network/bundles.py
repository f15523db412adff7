"""Bundles: fine-tuned weights, their card and their evidence in one file that can be shared.

A bundle is a zip archive, stored without compression:

    bundle.json            {"format": 1, "files": {name: sha256}} of all other files
    card.json              the `Card`; its weights_sha256 is that of the weights or adapters
    weights.safetensors    all weights; or
    adapters.safetensors   low-rank changes, ``name.up`` (out, r) and ``name.down`` (r, in) of weight ``name``, beside
    base.safetensors       the weights that they change, left out where these are shipped with this package
    before_after.png       a held-out slice

Digests tell damage and careless edits; they are no signature, for whoever makes a bundle makes its digests.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from safetensors.torch import load, load_file

from ..errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

SUFFIX = ".restorerwkv"
FORMAT = 1
MANIFEST, CARD, WEIGHTS, ADAPTERS, BASE, PICTURE = (
    "bundle.json",
    "card.json",
    "weights.safetensors",
    "adapters.safetensors",
    "base.safetensors",
    "before_after.png",
)
# What is unpacked into memory at most; the full network has 0.1 GB.
_LARGEST_BYTES = 4 << 30


def is_bundle(path: Path) -> bool:
    """Whether a file is meant to be a bundle: by its suffix, or by its contents if it was renamed."""
    if path.suffix.lower() == SUFFIX:
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST in archive.namelist()


def read_bundle(path: Path, only: Iterable[str] | None = None) -> dict[str, bytes]:
    """Read a bundle, or only some of its files, and check their digests.

    Raises
    ------
    CheckpointError
        If it is damaged, was changed, or is of a later format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if sum(sizes.values()) > _LARGEST_BYTES or len(sizes) != len(archive.infolist()):
                raise CheckpointError(_tampered(path, "it holds more than a bundle does"))
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] != FORMAT:
                raise CheckpointError(
                    f"{path.name} is a bundle of format {manifest['format']}, and this version reads format {FORMAT}; "
                    "update napari-restore-rwkv."
                )
            digests: dict[str, str] = manifest["files"]
            if digests.keys() | {MANIFEST} != sizes.keys():
                raise CheckpointError(_tampered(path, "files were added or are missing"))
            names = digests.keys() if only is None else set(only) & digests.keys()
            contents = {name: archive.read(name) for name in names}
    except PermissionError as error:
        raise CheckpointError(f"{path.name} may not be read by you; change its permissions.") from error
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise CheckpointError(_tampered(path, "it cannot be read")) from error
    for name, content in contents.items():
        if digest(content) != digests[name]:
            raise CheckpointError(_tampered(path, f"{name} is not what its digest says"))
    return contents


def weights_in(
    contents: Mapping[str, bytes], shipped: Iterable[Path], file: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a bundle that was read, adapters merged into them, and its card as plain values."""
    try:
        card: dict[str, Any] = json.loads(contents[CARD])
        payload = contents[ADAPTERS] if ADAPTERS in contents else contents[WEIGHTS]
        if card["weights_sha256"] != digest(payload):
            raise CheckpointError(_tampered(Path(file), "its card describes other weights"))
        values = load(payload)
        if ADAPTERS in contents:
            values = merged(_base(contents, card, shipped, file), values)
    except (KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise CheckpointError(_tampered(Path(file), "its weights or card cannot be read")) from error
    return values, card


def merged(weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with adapters put in: W + up @ down. Exactly what `training.adapters` computes with."""
    result = dict(weights)
    for name in {key.rsplit(".", 1)[0] for key in adapters}:
        result[name] = torch.addmm(weights[name], adapters[f"{name}.up"], adapters[f"{name}.down"])
    return result


def digest(content: bytes) -> str:
    """Sha256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _base(
    contents: Mapping[str, bytes], card: Mapping[str, Any], shipped: Iterable[Path], file: str
) -> dict[str, Tensor]:
    if BASE in contents:
        return load(contents[BASE])
    wanted = card["details"]["base"]["weights_sha256"]
    for path in shipped:
        if digest(path.read_bytes()) == wanted:
            return load_file(path)
    raise CheckpointError(
        f"{file} changes weights that this version does not ship (sha256 {wanted[:12]}...); "
        "install the version that made it, or ask for a bundle with its base."
    )


def _tampered(path: Path, why: str) -> str:
    return f"{path.name} is damaged or was changed: {why}. Get it anew from where it was made."
