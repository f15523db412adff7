"""Low-rank adapters (LoRA, arXiv 2106.09685): frozen weights, with a learned change of low rank: W + up @ down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..network.model import RestoreRWKV


class AdaptedLinear(nn.Module):
    """A linear layer without bias whose weight is frozen; its change starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = layer.weight.shape
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.down = nn.Parameter(torch.randn(rank, inputs, generator=generator) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the adapted weight; (..., inputs) to (..., outputs)."""
        return functional.linear(x, torch.addmm(self.weight, self.up, self.down))


def add_adapters(network: RestoreRWKV, rank: int, seed: int) -> None:
    """Freeze a network, in place, and give all its linear layers adapters of this rank."""
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear) and getattr(layer, "bias", None) is None:
                setattr(module, name, AdaptedLinear(layer, min(rank, *layer.weight.shape), generator))


def adapters_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapters of an adapted network's state: ``name.weight.up`` and ``name.weight.down`` of each weight."""
    return {
        f"{layer}.weight.{part}": value
        for name, value in state.items()
        for layer, part in [name.rsplit(".", 1)]
        if part in ("up", "down")
    }


def without_adapters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frozen weights of an adapted network's state, under the names of the plain network."""
    return {name: value for name, value in state.items() if not name.endswith((".up", ".down"))}
