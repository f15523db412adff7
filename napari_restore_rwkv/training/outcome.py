"""The result of fine-tuning: the verdict with its evidence, and the weights, old, new or in between."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError
from ..network.bundles import digest
from ..network.checkpoint import (
    KEEPS_MEASURED,
    TURNS,
    WRAPPED_BORDER,
    earlier_checkpoints,
    for_inference,
    load_checkpoint,
    shipped_checkpoints,
)
from ..network.restorer import Card
from ..scans.slice_axis import evenly_spaced
from .acceptance import Row, Verdict, blend
from .annotations import PALETTE
from .bundle import new_bundle, safetensors_bytes, save_bundle
from .slices import Slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from ..network.model import RestoreRWKV
    from .material import Checked, Material
    from .options import FineTuneOptions

_FINGERPRINT_SLICES = 16
_FIGURES = {
    "noisy": "estimated from the two neighbouring slices; SSIM is that to their mean",
    "reference": "against the scans that the degraded ones were simulated from",
    "paired": "against the reference scans",
}


@dataclass(frozen=True, slots=True, eq=False)
class FineTuned:
    """The result of fine-tuning.

    Attributes
    ----------
    verdict
        Whether the new weights are accepted, and the reason in a sentence.
    rows
        The held-out slices before and after.
    card
        Of the new weights; its details contain everything that a bundle states.
    picture
        PNG of a held-out slice: degraded, old weights, new weights, target; None if nothing was trained.
    old, new
        Old and new weights by name, on the CPU; new is None if nothing was trained.
    adapters
        What the new weights change, if adapters were trained; else None.
    curve
        One record for each scoring of the held-out slices.
    plain
        The network of the old weights, not fused.
    """

    verdict: Verdict
    rows: tuple[Row, ...]
    card: Card
    picture: bytes | None
    old: Mapping[str, Tensor]
    new: Mapping[str, Tensor] | None
    adapters: Mapping[str, Tensor] | None
    curve: tuple[Mapping[str, float], ...]
    plain: RestoreRWKV

    @property
    def accepted(self) -> bool:
        """Whether the new weights are taken."""
        return self.verdict.accepted

    def network(self, amount: float | None = None) -> RestoreRWKV:
        """Return a fused network for `restore`.

        Parameters
        ----------
        amount
            0 for the old weights, 1 for the new ones, or any blend; None for the new ones if they were accepted.
        """
        chosen = float(self.accepted) if amount is None else amount
        if self.new is None or not chosen:
            return for_inference(self.plain, self.plain.card)
        weights = blend(self.old, self.new, chosen)
        details = {**self.card.details, "blend": chosen}
        card = replace(self.card, weights_sha256=digest(safetensors_bytes(weights)), details=details)
        return for_inference(self.plain, card, weights)

    def save(self, path: Path | None = None, amount: float = 1.0) -> Path:
        """Write a bundle, accepted or not; its card says which.

        Parameters
        ----------
        path
            A new file; by default `new_bundle`, which the viewer lists.
        amount
            Blend of the old weights and the new, above 0 and up to 1.

        Raises
        ------
        CheckpointError
            If nothing was trained.
        OutputError
            If there is such a file already.
        """
        if self.new is None:
            raise CheckpointError(f"There are no new weights to save. {self.verdict.reason}")
        card = replace(self.card, details={**self.card.details, "blend": amount})
        if path is None:
            path = new_bundle(card.task)
        if self.adapters is None:
            return save_bundle(path, card, weights=blend(self.old, self.new, amount), picture=self.picture)
        adapters = {name: value * amount if name.endswith(".up") else value for name, value in self.adapters.items()}
        known = shipped_checkpoints() | earlier_checkpoints()
        shipped = {digest(file.read_bytes()) for file in known.values()}
        base = None if card.details["base"]["weights_sha256"] in shipped else self.old
        return save_bundle(path, card, adapters=adapters, base=base, picture=self.picture)


def describe(
    checked: Checked,
    card: Card,
    options: FineTuneOptions,
    *,
    rank: int,
    record: Any,
    verdict: Verdict,
    rows: Sequence[Row],
    window: tuple[float, float] | None,
) -> Card:
    """Write the card of new weights: everything that their users should know, and no file names."""
    now = datetime.now(UTC)
    mode = checked.mode
    details = {
        "created": now.isoformat(timespec="seconds"),
        **inherited(card),
        "trained": f"adapters of rank {rank}" if rank else "all weights",
        "mode": mode,
        "data": fingerprints(checked),
        "split": [asdict(split) for split in checked.splits],
        "labels": [
            None
            if covered is None
            else {PALETTE[label].name: count for label, count in covered.pixels.items() if count}
            for covered in checked.covered
        ],
        "options": {name: value for name, value in asdict(options).items() if name != "title"},
        "seed": options.seed,
        "curve": record.curve,
        "best_step": record.best_step,
        "held_out": {"what": _FIGURES[mode], "window": window, "rows": [row.as_dict() for row in rows]},
        "verdict": {"accepted": verdict.accepted, "reason": verdict.reason},
        "warnings": list(checked.warnings),
        "versions": versions(),
    }
    title = options.title or f"{card.title}, fine-tuned {now:%Y-%m-%d %H:%M}"
    return Card(
        title=title,
        task=card.task,
        modality=card.modality,
        created=f"{now:%Y-%m-%d}",
        intended_use=f"Scans made like those {len(checked.material)} that were fine-tuned on. Research only.",
        limits="Measured on slices held out of the same scans, not on other subjects or scanners. "
        + (card.limits and f"Of the old weights: {card.limits}"),
        details=details,
    )


def inherited(card: Card) -> dict[str, Any]:
    """Details of new weights that follow from the card of those that they were made from."""
    kept = {name: card.details[name] for name in (KEEPS_MEASURED, TURNS, WRAPPED_BORDER) if name in card.details}
    return {**kept, "base": {"title": card.title, "task": card.task, "weights_sha256": card.weights_sha256}}


def versions() -> dict[str, str]:
    """The versions of what computed the weights."""
    return {name: version(name) for name in ("napari-restore-rwkv", "torch", "numpy")}


def fingerprints(checked: Checked) -> list[dict[str, Any]]:
    """Identify the scans without their names: shape, spacing, and a digest of up to 16 evenly spaced slices."""
    return [_fingerprint(one, checked.axis) for one in checked.material]


def _fingerprint(one: Material, axis: int) -> dict[str, Any]:
    known: dict[str, Any] = {"shape": list(one.scan.shape), "spacing_mm": list(one.scan.spacing_mm)}
    for name, scan in (("degraded", one.degraded), ("target", one.target)):
        if scan is not None:
            slices = Slices(scan, axis)
            numbers = evenly_spaced(len(slices), _FINGERPRINT_SLICES)
            content = hashlib.sha256(b"".join(np.ascontiguousarray(slices.read(i)).tobytes() for i in numbers))
            known[f"{name}_sha256"] = content.hexdigest()
    if one.labels is not None:
        known["labels_sha256"] = hashlib.sha256(np.ascontiguousarray(one.labels).tobytes()).hexdigest()
    return known | {"strength": one.strength}


def blended_network(old: str | Path, bundle: Path, amount: float) -> RestoreRWKV:
    """Return a fused network between old weights (0) and those of a bundle that were made from them (1).

    Raises
    ------
    CheckpointError
        If the bundle was made from other weights.
    """
    network, old_card, new_card = _blended(old, bundle, amount)
    card = replace(new_card, details={**new_card.details, "blend": amount}) if amount else old_card
    return for_inference(network, card)


def save_blend(old: str | Path, bundle: Path, amount: float, path: Path) -> Path:
    """Write a bundle between old weights and those of a bundle, named after its file; return the file.

    Raises
    ------
    CheckpointError
        If the bundle was made from other weights.
    OutputError
        If there is such a file already, or it cannot be written.
    """
    network, _, card = _blended(old, bundle, amount)
    details = {**card.details, "blend": amount}
    blended = replace(card, title=path.stem, details=details)
    return save_bundle(path, blended, weights=network.state_dict())


def _blended(old: str | Path, bundle: Path, amount: float) -> tuple[RestoreRWKV, Card, Card]:
    first, second = load_checkpoint(old, fused=False), load_checkpoint(bundle, fused=False)
    old_card, new_card = first.card, second.card
    assert isinstance(old_card, Card)
    assert isinstance(new_card, Card)
    if new_card.details.get("base", {}).get("weights_sha256") != old_card.weights_sha256:
        raise CheckpointError(f"{bundle.name} was not made from these weights; blend it with its own base.")
    first.load_state_dict(blend(first.state_dict(), second.state_dict(), amount))
    return first, old_card, new_card
