"""What would be lost in the displayed slice: faint probes are inserted, and their remaining contrast is mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QDoubleSpinBox

from ...reliability.contrast_map import Probe, passes_needed
from .macro import lost_as_python
from .slice_map import SliceMap, map_layer
from .slice_map_steps import lost_contrast_steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...progress import Progress
    from ...reliability.contrast_map import ContrastMap
    from ..options import RestoreOptions
    from .comparison import Comparison
    from .shown_slice import ShownSlice

# Contrast in the unit of the scan and diameter in mm of the first probe: a faint lesion of the modality.
PROBES = {"HU": (5.0, 8.0), "SUV": (1.0, 12.0)}
# Contrast as a fraction of the displayed range, for arbitrary units.
FAINT = 0.03


class LossMap(SliceMap):
    """Probe, estimate, Map, Cancel; then the median and the worst positions."""

    tip = "Insert faint discs all over this slice, restore it with them, and map how much of their contrast is left"
    about_name = "What would be lost in this slice"
    places_tip = "Positions where the least contrast is left"

    def passes(self) -> int:
        """Number of network passes for a map."""
        return passes_needed()

    def propose(self, comparison: Comparison) -> None:
        """Fill in a faint lesion of the modality."""
        scan = comparison.result.scan
        low, high = comparison.input.contrast_limits
        contrast, diameter = PROBES.get(scan.unit, (float(f"{FAINT * (high - low):.1g}"), 8.0))
        self.contrast.setSuffix(f" {scan.unit}".rstrip())
        self.contrast.setValue(contrast)
        self.diameter.setValue(diameter)

    def plan(
        self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions
    ) -> tuple[Generator[Progress, None, ContrastMap], Any]:
        """Return the steps for the current probe, and a function that makes text, positions and a layer of the map."""
        probe = Probe(self.contrast.value(), self.diameter.value())
        name = f"{probe.contrast:g} {shown.unit}".rstrip() + f", {probe.diameter_mm:g} mm"

        def finish(found: ContrastMap) -> tuple[Any, ...]:
            words = f"{found.median:.0%} of the contrast of a disc of {name} is left (median)."
            kept = "contrast kept"
            layer = map_layer(comparison, shown, found.kept, f"{kept} of {name}", kept, "magma", (0.0, 1.0))
            return words, found.worst, layer

        return lost_contrast_steps(options, comparison, shown.index, probe), finish

    def as_python(self, comparison: Comparison, shown: ShownSlice, options: RestoreOptions) -> str:
        """Return lines that repeat the map."""
        return lost_as_python(options, comparison, shown.index, Probe(self.contrast.value(), self.diameter.value()))

    def place_in_words(self, row: int, column: int, value: float) -> str:
        """Return how much is left at a position."""
        return f"{value:.0%} at row {row}, column {column}"

    def _build(self) -> None:
        self.contrast, self.diameter = _number(0.01, 1e6), _number(0.1, 500.0)
        self.contrast.setToolTip("How much brighter or darker than its surroundings a probe is")
        self.contrast.setAccessibleName("Contrast of the probe")
        self.diameter.setToolTip("Diameter of a probe in mm; at least 1.5 pixels")
        self.diameter.setAccessibleName("Diameter of the probe")
        self.diameter.setSuffix(" mm")
        self._rows.addRow("Contrast", self.contrast)
        self._rows.addRow("Diameter", self.diameter)
        super()._build()


def _number(low: float, high: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(2)
    return box
