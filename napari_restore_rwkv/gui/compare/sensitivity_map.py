"""How much the result depends on how the slice lies: a map, labelled for what it is."""

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
    """Estimate, Map, Cancel; then the median and the most sensitive places."""

    tip = "Restore this slice in all eight orientations (flips and rotations), and map how far the results differ"
    about_name = f"How much the result depends on the orientation of the slice: {LABEL}"
    places_tip = "Places where the results differ most"

    def passes(self) -> int:
        """How often the network is run for a map."""
        return passes_needed()

    def plan(
        self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions
    ) -> tuple[Generator[Progress, None, Sensitivity], Any]:
        """Return the steps, and what makes words, places and a layer of the map."""

        def finish(found: Sensitivity) -> tuple[Any, ...]:
            median = f"{in_words(found.median)} {shown.unit}".rstrip()
            words = (
                f"the eight results differ by {median} (standard deviation, median). This is {LABEL}: where they "
                "agree they can be wrong together."
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
        """Return lines that map the same again."""
        return sensitivity_as_python(options, comparison, shown.index)

    def place_in_words(self, row: int, column: int, value: float) -> str:
        """Return how far the results differ at a place."""
        return f"± {in_words(value)} at row {row}, column {column}"
