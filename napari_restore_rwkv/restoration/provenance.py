"""How a result was made, as plain values that travel with it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..network.checkpoint import KEEPS_MEASURED, NOISE_KEPT, OWN_ERROR, TURNS, WRAPPED_BORDER
from ..network.restorer import Restorer, card_of, device_of, kernel_of
from ..scans.scan import AXES
from .data_consistency import keeps_measured
from .noise import noise_kept, own_error

if TYPE_CHECKING:
    from ..scans.slice_axis import SliceAxis
    from .intensity import IntensityRule

NOTICE = "Research use only. Not for diagnosis."


class InputDigest:
    """A digest of the input voxels, independent of the order in which slices were read."""

    def __init__(self) -> None:
        self._slices: dict[int, bytes] = {}

    def add(self, index: int, voxels: np.ndarray) -> None:
        """Add one slice."""
        self._slices[index] = hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).digest()

    def hexdigest(self) -> str:
        """Sha256 over the digests of all slices, in the order of their index."""
        return hashlib.sha256(b"".join(self._slices[i] for i in sorted(self._slices))).hexdigest()


def settings_of(network: nn.Module) -> dict[str, Any]:
    """Return what the card of a network asks for that changes results; what was added later only where it does."""
    turns, border = (network.turns, network.wrapped_border) if isinstance(network, Restorer) else (1, 0)
    later = {WRAPPED_BORDER: border, OWN_ERROR: own_error(network), NOISE_KEPT: noise_kept(network)}
    used = {name: value for name, value in later.items() if value}
    return {KEEPS_MEASURED: keeps_measured(network), TURNS: turns, **used}


def provenance(
    network: nn.Module,
    intensity: IntensityRule,
    axis: SliceAxis,
    slices: int,
    digest: InputDigest,
    **execution: Any,
) -> dict[str, Any]:
    """Describe a finished restoration.

    Parameters
    ----------
    axis
        The axis across the slices, and why it was chosen.
    slices
        How many slices were restored.
    digest
        Of the input voxels of those slices.
    **execution
        How the work was done: precision, batches.
    """
    card, device = card_of(network), device_of(network)
    return {
        "software": f"napari-restore-rwkv {version('napari-restore-rwkv')}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": card.task,
        "weights": card.title,
        "weights_sha256": card.weights_sha256,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "device": str(device),
        "kernel": kernel_of(network, device),
        "torch": torch.__version__,
        **settings_of(network),
        **execution,
        "intensity": intensity.as_dict(),
        "slice_axis": AXES[axis.axis],
        "slice_axis_reason": axis.reason,
        "slices": slices,
        "input_sha256": digest.hexdigest(),
        "notice": NOTICE,
    }
