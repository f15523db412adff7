"""What a restoration needs to know about a network besides its output."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a set of weights.

    Attributes
    ----------
    title
        Name shown to the user.
    task
        One of `napari_restore_rwkv.tasks.TASKS`, or "" if unknown.
    modality
        "CT", "MR" or "PET"; None if the weights take any, or if it is unknown.
    created
        ISO date.
    weights_sha256
        Digest of the weights file.
    intended_use, limits
        Sentences for the user who is about to use the weights.
    details
        Training data with their hashes, recipe, curve, table of measurements.
    """

    title: str
    task: str = ""
    modality: str | None = None
    created: str = ""
    weights_sha256: str = ""
    intended_use: str = ""
    limits: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values, as it is stored."""
        return asdict(self)


# The values of a module without a card.
NO_CARD = Card("")


class Restorer(nn.Module):
    """A module that restores images (B, 1, Y, X) in network units; any other module can be used as well, card or not.

    Attributes
    ----------
    card
        What is known about the weights.
    context
        Channels of its input besides the slice, 0 for none.
    turns
        Over how many quarter turns the result is averaged (a self-ensemble).
    wrapped_border
        How many pixels are repeated around the image from its opposite side.
    """

    card: Card = NO_CARD
    context: int = 0
    turns = 1
    wrapped_border = 0

    def kernel(self, device: torch.device) -> str:
        """Name of the kernel that computes its attention on a device; "no kernel" where it has no attention."""
        return "no kernel"

    def stages(self, image: Tensor, *, in_strips: bool = False) -> Iterator[Tensor]:
        """Run the network in parts, yielding something after each, and the restored images last."""
        yield self(image)


def card_of(network: nn.Module | None) -> Card:
    """Return the card of a network; an empty one if it has none, or if there is no network."""
    return network.card if isinstance(network, Restorer) else NO_CARD


def stages_of(network: nn.Module, image: Tensor, *, in_strips: bool = False) -> Iterator[Tensor]:
    """Run any module in parts, as `Restorer.stages` does."""
    if isinstance(network, Restorer):
        return network.stages(image, in_strips=in_strips)
    return iter([network(image.to(next(network.parameters(), image).dtype))])


def kernel_of(network: nn.Module, device: torch.device) -> str:
    """Name of the kernel that computes a network's attention on a device; see `Restorer.kernel`."""
    return network.kernel(device) if isinstance(network, Restorer) else "no kernel"


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network is on."""
    return next(network.parameters(), torch.empty(0)).device
