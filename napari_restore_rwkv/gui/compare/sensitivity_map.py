"""How much the result depends on the orientation of the slice: a map of sensitivity, not of probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...reliability.difference import limit_of
from ...reliability.sensitivity import passes_needed
from .cursor_values import in_words
from .macro import sensitivity_as_python
from .slice_map import SliceMap, map_layer
from .slice_map_steps import sensitivity_steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ...reliability.sensitivity import Sensitivity
    from ..options import RestoreOptions
    from .comparison import Comparison
    from .shown_slice import ShownSlice

LABEL = "sensitivity, not probability"


class SensitivityMap(SliceMap):
    """Estimate, Map, Cancel; then the median and the most sensitive positions."""

    tip = "Restore this slice in all eight orientations (flips and rotations), and map how far the results differ"
    about_name = f"How much the result depends on the orientation of the slice: {LABEL}"
    places_tip = "Positions where the results differ most"

    def passes(self) -> int:
        """Number of network passes for a map."""
        return passes_needed()

    def plan(
        self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions
    ) -> tuple[Generator[Progress, None, Sensitivity], Any]:
        """Return the steps, and a function that makes text, positions and a layer of the map."""

        def finish(found: Sensitivity) -> tuple[Any, ...]:
            median = f"{in_words(found.median)} {shown.unit}".rstrip()
            words = (
                f"the eight results differ by {median} (median standard deviation). This is {LABEL}: where they "
                "agree, all of them can be wrong."
            )
            limits = (0.0, limit_of(found.deviation))
            name = f"{LABEL} {shown.unit}".rstrip()
            return (
                words,
                found.highest,
                map_layer(comparison, shown, found.deviation, name, "sensitivity", "viridis", limits),
            )

        return sensitivity_steps(options, comparison, shown.index), finish

    def as_python(self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions) -> str:
        """Return lines that repeat the map."""
        return sensitivity_as_python(options, comparison, shown.index)

    def place_in_words(self, row: int, column: int, value: float) -> str:
        """Return how much the results differ at a position."""
        return f"± {in_words(value)} at row {row}, column {column}"
