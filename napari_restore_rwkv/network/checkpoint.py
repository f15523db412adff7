"""Weights and their cards, on disk and back.

A checkpoint is a safetensors file, with a card of the same name ending in .json beside it: what the weights are for,
what they were trained on, how well they did in tests, and their sha256. A checkpoint in the authors' format (a plain
state_dict saved by torch) is read as well, but never one with pickled code in it.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..errors import CheckpointError
from ..storage.durable import sha256_of, write_output
from ..storage.uninterrupted import uninterrupted
from ..tasks import TASKS
from ..untrusted import json_object, read_regular
from . import cards
from .bundles import digest, is_bundle, read_bundle, weights_in
from .cards import MOST_BLOCKS, MOST_CHANNELS, checked_values
from .containers import REAL, check_tensors, safetensors_in, state_in
from .model import CONTEXT_CHANNELS, RestoreRWKV
from .pickle_check import CodeError
from .restorer import Card

_SHIPPED = Path(__file__).parent / "weights"
# In the details of a card: whether the weights only add frequencies that were not measured, and keep those that were;
# over how many quarter turns they are averaged when they restore; how many pixels of its opposite side are repeated
# around an image. Weights derived from others inherit all three.
KEEPS_MEASURED, TURNS, WRAPPED_BORDER = cards.KEEPS_MEASURED, cards.TURNS, cards.WRAPPED_BORDER
# In the details of a card: the error of the weights, in the unit of the scan, where there is no noise to remove.
OWN_ERROR = cards.OWN_ERROR
# In the details of a card: the fraction, 0 to 1, of the noise that the weights leave in to preserve its texture.
NOISE_KEPT = cards.NOISE_KEPT
# In the details of a shipped card: by how much the weights miss their requirements, in words; "" if they meet them.
FALLS_SHORT = cards.FALLS_SHORT
_WRAPPERS = ("state_dict", "model", "params")
_PREFIXES = ("module.", "base.")
# Left over in the authors' files: a layer of 2024 that nothing uses, and a folded kernel that may be stale.
_UNUSED = ("att.dwconv.weight", "omni_shift.conv5x5_reparam.weight")
_BLOCK_KEY = re.compile(r"(encoder_level1|encoder_level2|encoder_level3|latent|refinement)\.(\d+)\.")


def shipped_checkpoints() -> dict[str, Path]:
    """Return the weights file of every task that comes with weights, by task name."""
    return {task: path for task in TASKS if (path := _SHIPPED / f"{task}.safetensors").is_file()}


def earlier_checkpoints() -> dict[str, Path]:
    """Return the weights files that earlier versions shipped, by task and number, such as "ct-denoise@1"."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*@*.safetensors"))}


def load_checkpoint(path_or_task: str | Path, fused: bool = True) -> RestoreRWKV:
    """Load weights as a network.

    Parameters
    ----------
    path_or_task
        A task with shipped weights, such as "ct-denoise", or weights of an earlier version, such as "ct-denoise@1"; or
        a file: .safetensors of this program, or a state_dict of the authors' code (.pth, .pt, .ckpt), or a bundle of
        fine-tuned weights (.restorerwkv), adapters merged. The network's sizes are inferred from the weights.
    fused
        Fold each Omni-Shift into one convolution, for inference; False keeps the network trainable.

    Returns
    -------
    RestoreRWKV
        Maps (B, 1, Y, X) to the same shape; in evaluation mode if fused. Its attribute ``card`` is a `Card`.

    Raises
    ------
    CheckpointError
        If there are no such weights, or the file is anything else.
    """
    path = _path_of(path_or_task)
    if is_bundle(path):
        known = [*shipped_checkpoints().values(), *earlier_checkpoints().values()]
        weights, stored = weights_in(read_bundle(path), known, path.name)
        card = card_from(stored, path.name)
    else:
        weights, card = _without_leftovers(_read(path)), _read_card(path)
    sizes = _sizes(weights, path.name)
    # A network without memory shows which weights belong in one.
    with torch.device("meta"):
        network = RestoreRWKV(**sizes)
    _check_fit(network, weights, path.name)
    network.load_state_dict({name: value.to(torch.float32, copy=True) for name, value in weights.items()}, assign=True)
    if fused:
        return _configured(network.fuse(), card)
    network.card = card
    return network


def for_inference(network: RestoreRWKV, card: Card, weights: Mapping[str, Tensor] | None = None) -> RestoreRWKV:
    """Return a fused copy that restores as its card says, with other weights if given."""
    return _configured(network.fused(weights), card)


def _configured(fused: RestoreRWKV, card: Card) -> RestoreRWKV:
    turns = card.details.get(TURNS, 1)
    if turns not in (1, 2, 3, 4):
        raise CheckpointError(
            f"The card of {card.title} asks for {turns} quarter turns; 1 to 4 are possible: get a new copy."
        )
    fused.turns = turns
    fused.wrapped_border = card.details.get(WRAPPED_BORDER, 0)
    fused.card = card
    return fused


def save_checkpoint(network: RestoreRWKV, card: Card, path: Path) -> None:
    """Write weights and card; the card gets the digest of the weights.

    Parameters
    ----------
    network
        A network that is not fused: fused weights cannot be trained further.
    path
        The weights file, ending in .safetensors. The card goes beside it.

    Raises
    ------
    OutputError
        They cannot be written.
    """
    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    stored = card.as_dict() | {"weights_sha256": digest(content)}
    with uninterrupted():
        write_output(path, content)
        write_output(path.with_suffix(".json"), json.dumps(stored, indent=2).encode() + b"\n")


def _path_of(path_or_task: str | Path) -> Path:
    if path_or_task in TASKS:
        shipped = shipped_checkpoints()
        if path_or_task not in shipped:
            there_are = f"there are weights for {', '.join(shipped)}" if shipped else "none are shipped yet"
            raise CheckpointError(f"There are no weights for {path_or_task} yet ({there_are}); give --checkpoint FILE.")
        return shipped[str(path_or_task)]
    path = Path(path_or_task)
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path.name} is not a file; give a weights file or a task ({', '.join(TASKS)}).")
    if path.is_file():
        return path
    earlier = earlier_checkpoints()
    if path.name in earlier:
        return earlier[path.name]
    names = ", ".join([*TASKS, *earlier])
    raise CheckpointError(f"There is no weights file {path.name}; give an existing file or a task ({names}).")


def _read(path: Path) -> dict[str, Tensor]:
    """All named tensors of a file, without wrappers and prefixes."""
    try:
        if path.suffix.lower() == ".safetensors":
            content: Any = safetensors_in(path)
        else:
            # Torch warns about pickles of other versions; those that it cannot read it refuses anyway.
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                content = state_in(path)
    except PermissionError as error:
        raise CheckpointError(f"{path.name} cannot be read: permission denied; change its permissions.") from error
    except (CodeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path.name} contains more than weights (pickled Python objects), which could run code, "
            "so it was not opened; save its plain state_dict and give that."
        ) from error
    # Torch does not document what it raises for files with any other content.
    except Exception as error:
        raise CheckpointError(
            f"{path.name} cannot be read as weights: it is damaged or of another type; "
            "give a .safetensors file or a plain state_dict."
        ) from error
    while isinstance(content, Mapping) and (
        inner := [content[w] for w in _WRAPPERS if isinstance(content.get(w), Mapping)]
    ):
        content = inner[0]
    if not (isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values())):
        raise CheckpointError(f"{path.name} contains no named weights; give a safetensors file or a plain state_dict.")
    try:
        check_tensors(content, path.stat().st_size)
    except ValueError as error:
        raise CheckpointError(
            f"{path.name} cannot be read as weights: {error}; get a new copy from its author."
        ) from error
    return {_without_prefixes(str(name)): value for name, value in content.items()}


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _without_leftovers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith(_UNUSED)}


def _sizes(weights: Mapping[str, Tensor], file: str) -> dict[str, Any]:
    """The arguments of RestoreRWKV, from names and shapes."""
    embedding = weights.get("patch_embed.weight")
    if embedding is None or embedding.dim() != 4:
        raise CheckpointError(
            f"{file} is not a Restore-RWKV checkpoint: it has no patch_embed.weight; give another file."
        )
    if embedding.shape[1] != 1:
        raise CheckpointError(
            f"{file} is for images with {embedding.shape[1]} channels; only scans with one channel can be restored."
        )
    found = {match.groups() for name in weights if (match := _BLOCK_KEY.match(name))}
    levels = ("encoder_level1", "encoder_level2", "encoder_level3", "latent", "refinement")
    *blocks, refinement = (sum(level == name for level, _ in found) for name in levels)
    if embedding.shape[0] > MOST_CHANNELS or max(*blocks, refinement) > MOST_BLOCKS:
        raise CheckpointError(
            f"{file} is for a network of {embedding.shape[0]} channels and up to {max(*blocks, refinement)} blocks per "
            f"level; at most {MOST_CHANNELS} and {MOST_BLOCKS} are expected, so it is damaged or forged."
        )
    context = weights.get("context_embed.weight")
    known = context is None or (context.dim() == 4 and context.shape[1] == CONTEXT_CHANNELS)
    if not known:
        raise CheckpointError(
            f"{file} does not fit Restore-RWKV: its context_embed.weight is for other context than the "
            f"{CONTEXT_CHANNELS} channels known here; was it made by a newer version?"
        )
    return {
        "channels": embedding.shape[0],
        "blocks": blocks,
        "refinement": refinement,
        "context": 0 if context is None else CONTEXT_CHANNELS,
    }


def _check_fit(network: RestoreRWKV, weights: Mapping[str, Tensor], file: str) -> None:
    """Raise CheckpointError unless these are the weights of such a network, all of them finite."""
    wanted = network.state_dict()
    missing, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing:
        raise CheckpointError(f"{file} is incomplete: {_named(missing)} missing; it may be damaged: get a new copy.")
    if unknown:
        raise CheckpointError(
            f"{file} does not fit Restore-RWKV: {_named(unknown)} unknown; was it made for another network?"
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(
                f"{file} does not fit Restore-RWKV: {name} has shape {tuple(value.shape)}, "
                f"not {tuple(wanted[name].shape)}; was it made for another network?"
            )
        if value.dtype not in REAL:
            raise CheckpointError(
                f"{file} does not fit Restore-RWKV: {name} contains {value.dtype}, not real numbers; get a new copy."
            )
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{file} is damaged: {name} contains NaN or infinite values; get a new copy.")


def _named(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more are"


def _read_card(path: Path) -> Card:
    digest = sha256_of(path)
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return Card(title=path.stem, weights_sha256=digest)
    try:
        stored = json_object(read_regular(beside))
    except (ValueError, OSError) as error:
        raise CheckpointError(_unreadable_card(beside.name)) from error
    card = card_from(stored, beside.name)
    if card.weights_sha256 != digest:
        raise CheckpointError(
            f"{path.name} is not the file that its card {beside.name} describes (sha256 differs); get both again."
        )
    return card


def card_from(stored: Any, file: str) -> Card:
    """Make a card from its plain values, which are checked; additions of later versions are left out."""
    try:
        return Card(**checked_values(stored))
    except ValueError as error:
        raise CheckpointError(f"The card {file} cannot be used: {error}; get a new copy from its author.") from error


def _unreadable_card(file: str) -> str:
    return f"The card {file} cannot be read; get a new copy, or move it away to use the weights without a card."
