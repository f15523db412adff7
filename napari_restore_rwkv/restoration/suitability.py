"""Whether weights were made for noise like that of a scan, and what is proposed if they were not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..network import cards

if TYPE_CHECKING:
    from ..network.restorer import Card
    from ..scans.noise.estimate import Noise

# In the details of a card: {"noise": [least, most], "mean_frequency": [least, most]}, the ranges of
# `scans.noise.estimate.Noise` that the weights were trained on; noise in the unit of the scan.
TRAINED_FOR = cards.TRAINED_FOR
# Mean frequency in cycles per pixel up to which noise is described this way.
_TEXTURES = (
    (0.14, "coarse, as of a very smooth kernel"),
    (0.25, "as of a soft kernel"),
    (0.34, "as of a sharp kernel"),
)
_FINEST = "fine, as of a very sharp kernel or of no filter"
# Proposed strength for noise unlike any in training.
_CAUTIOUS = 0.6


@dataclass(frozen=True, slots=True)
class Suitability:
    """What is proposed for a scan.

    Attributes
    ----------
    known
        Whether the weights were trained on noise like this; also True if their card does not say.
    strength
        The proposed strength, 0 to 1.
    classical
        Whether the classical filter is proposed instead.
    reason
        A sentence for the user; "" if the card does not say what the weights were trained for.
    """

    known: bool
    strength: float
    classical: bool
    reason: str


def suitability(noise: Noise, card: Card | None) -> Suitability:
    """Compare a scan's noise with the noise that the weights were trained on, according to their card."""
    ranges = card.details.get(TRAINED_FOR) if card is not None else None
    if not isinstance(ranges, Mapping):
        return Suitability(True, 1.0, False, "")
    least, most = ranges["noise"]
    lowest, highest = ranges["mean_frequency"]
    known = f"{_quantity(least)} to {_quantity(most, noise.unit)}"
    made_for = f"these weights were made for {known}"
    measured = f"The noise is {_quantity(noise.sigma, noise.unit)}"
    if noise.sigma > most:
        return Suitability(
            False, _CAUTIOUS, True, f"{measured}, and {made_for}: outside, the classical filter is proposed."
        )
    if noise.sigma < least:
        # No more is removed than the noise accounts for, so full strength is safe.
        return Suitability(True, 1.0, False, f"{measured}, and {made_for}: there is little to remove.")
    if not lowest <= noise.mean_frequency <= highest:
        finer = "finer" if noise.mean_frequency > highest else "coarser"
        return Suitability(
            False,
            _CAUTIOUS,
            False,
            f"The noise is {finer} than any that these weights were made for ({noise.mean_frequency:.2f} cycles per "
            f"pixel, not {lowest:.2f} to {highest:.2f}): a strength of {_CAUTIOUS:.0%} is proposed.",
        )
    return Suitability(True, 1.0, False, f"{measured}; these weights know {known} and this kernel.")


def texture(noise: Noise) -> str:
    """Describe the grain of the noise in the field's terms."""
    return next((words for most, words in _TEXTURES if noise.mean_frequency <= most), _FINEST)


def _quantity(value: float, unit: str = "") -> str:
    return f"{value:.3g} {unit}".rstrip()
