"""Bundles: fine-tuned weights, their card and their evidence in one shareable file.

A bundle is a zip archive, stored without compression:

    bundle.json            {"format": 1, "files": {name: sha256}} of all other files
    card.json              the `Card`; its weights_sha256 is that of the weights or adapters
    weights.safetensors    all weights; or
    adapters.safetensors   low-rank changes, ``name.up`` (out, r) and ``name.down`` (r, in) of weight ``name``, beside
    base.safetensors       the weights that they change, left out if these ship with this package
    before_after.png       a held-out slice

Digests reveal damage and careless edits; they are not a signature, since whoever makes a bundle makes its digests.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import torch

from ..errors import CheckpointError
from ..untrusted import RECORD_BYTES, json_object
from .cards import checked_values
from .containers import LARGEST_BYTES, check_archive, check_tensors, open_archive, safetensors_in

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
# The maximum of each; the full network has 0.1 GB.
_LARGEST = {
    MANIFEST: RECORD_BYTES,
    CARD: RECORD_BYTES,
    WEIGHTS: LARGEST_BYTES,
    ADAPTERS: LARGEST_BYTES,
    BASE: LARGEST_BYTES,
    PICTURE: 64 << 20,
}
_MOST_RANK = 1024
# What zipfile raises for files with any other content.
_UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError)


def is_bundle(path: Path) -> bool:
    """Whether a file is meant to be a bundle: by its suffix, or by its contents if it was renamed."""
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with open_archive(path) as archive:
            return MANIFEST in archive.namelist()
    except _UNREADABLE:
        return False


def read_bundle(path: Path, only: Iterable[str] | None = None) -> dict[str, bytes]:
    """Read a bundle, or only some of its files, and check their digests.

    Raises
    ------
    CheckpointError
        If it is damaged, was changed, or has a later format.
    """
    try:
        with open_archive(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if len(sizes) != len(archive.infolist()) or any(
                size > _LARGEST.get(name, LARGEST_BYTES) for name, size in sizes.items()
            ):
                raise CheckpointError(_tampered(path, "it contains more than a bundle does"))
            check_archive(path, archive)
            manifest = json_object(archive.read(MANIFEST))
            if manifest["format"] != FORMAT:
                theirs = str(manifest["format"])[:20]
                raise CheckpointError(
                    f"{path.name} is a bundle in format {theirs}, and this version reads format {FORMAT}; "
                    "update napari-restore-rwkv."
                )
            digests: dict[str, str] = manifest["files"]
            if digests.keys() | {MANIFEST} != sizes.keys() or not sizes.keys() <= _LARGEST.keys():
                raise CheckpointError(_tampered(path, "files were added or are missing"))
            names = digests.keys() if only is None else set(only) & digests.keys()
            contents = {name: archive.read(name) for name in names}
    except PermissionError as error:
        raise CheckpointError(f"{path.name} cannot be read: permission denied; change its permissions.") from error
    except _UNREADABLE as error:
        raise CheckpointError(_tampered(path, "it cannot be read")) from error
    for name, content in contents.items():
        if digest(content) != digests[name]:
            raise CheckpointError(_tampered(path, f"{name} does not match its digest"))
    return contents


def weights_in(
    contents: Mapping[str, bytes], shipped: Iterable[Path], file: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a bundle, with adapters merged into them, and its card as plain values."""
    try:
        card = checked_values(json_object(contents[CARD]))
        payload = contents[ADAPTERS] if ADAPTERS in contents else contents[WEIGHTS]
        if card["weights_sha256"] != digest(payload):
            raise CheckpointError(_tampered(Path(file), "its card describes other weights"))
        values = safetensors_in(payload)
        check_tensors(values, len(payload))
        if ADAPTERS in contents:
            values = merged(_base(contents, card, shipped, file), values)
    except ValueError as error:
        raise CheckpointError(_tampered(Path(file), f"{error}")) from error
    except (KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(_tampered(Path(file), "its weights or card cannot be read")) from error
    return values, card


def merged(weights: Mapping[str, Tensor], adapters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with adapters merged in: W + up @ down. Exactly what `training.adapters` computes with.

    Raises
    ------
    KeyError, ValueError
        An adapter does not fit the weights.
    """
    result = dict(weights)
    for name in {key.rsplit(".", 1)[0] for key in adapters}:
        weight, up, down = weights[name], adapters[f"{name}.up"], adapters[f"{name}.down"]
        rank = up.shape[-1] if up.dim() else 0
        # If the weight were a single number, broadcasting would make the sum as large as the product.
        if (up.dim(), down.dim()) != (2, 2) or (up.shape[0], down.shape[1]) != weight.shape or rank > _MOST_RANK:
            raise ValueError(f"the adapter of {name} does not fit its weights")
        result[name] = torch.addmm(weight, up, down)
    return result


def digest(content: bytes) -> str:
    """Sha256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _base(
    contents: Mapping[str, bytes], card: Mapping[str, Any], shipped: Iterable[Path], file: str
) -> dict[str, Tensor]:
    if BASE in contents:
        base = safetensors_in(contents[BASE])
        check_tensors(base, len(contents[BASE]))
        return base
    wanted = card["details"]["base"]["weights_sha256"]
    for path in shipped:
        if digest(path.read_bytes()) == wanted:
            return safetensors_in(path)
    raise CheckpointError(
        f"{file} modifies weights that this version does not ship (sha256 {wanted[:12]}...); "
        "install the version that made it, or ask for a bundle that includes its base."
    )


def _tampered(path: Path, why: str) -> str:
    return f"{path.name} is damaged or was changed: {why}. Get a new copy from its author."
