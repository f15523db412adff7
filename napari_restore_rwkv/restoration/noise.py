"""How noisy a scan is, for networks that want to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .slices import uses_context

if TYPE_CHECKING:
    from torch import nn

    from ..scans.scan import Scan


def known_noise(scan: Scan, network: nn.Module, axis: int, noise: float | None) -> float | None:
    """Return the standard deviation of the noise in the unit of the scan: as given, or as measured.

    None where the network does not ask for it, or where it was not given and cannot be measured.
    """
    if not uses_context(network):
        return None
    return noise
