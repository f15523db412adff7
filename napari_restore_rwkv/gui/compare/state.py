"""Which result is compared, and in which view, without Qt.

The strength and the way to show the difference are part of a `Comparison`: its layers keep them for the next panel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from psygnal import SignalGroupDescriptor

if TYPE_CHECKING:
    from .comparison import Comparison

OWN_VIEW, SIDE_BY_SIDE, RESTORED_ONLY, BLINK = "my own view", "side by side", "restored only", "blink"
SWIPE, OVER_INPUT, ORTHOGONAL = "swipe", "difference over input", "orthogonal planes"
GRIDDED = (SIDE_BY_SIDE, ORTHOGONAL)


@dataclass(kw_only=True, eq=False)
class CompareState:
    """A result and its view.

    Attributes
    ----------
    events
        A psygnal signal for each field.
    comparison
        The result; None if there is none.
    mode
        The view that was chosen last, which the next result is shown in.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()
    comparison: Comparison | None = None
    mode: str = SIDE_BY_SIDE

    def show(self, comparison: Comparison, mode: str | None = None) -> None:
        """Compare another result, in a view or in the one that was chosen last; orthogonal planes need a volume."""
        mode = mode or self.mode
        # The view changes once, with the result.
        with self.events.mode.blocked():
            self.mode = SIDE_BY_SIDE if mode == ORTHOGONAL and not comparison.has_planes else mode
        self.comparison = comparison

    def can_show(self, mode: str) -> bool:
        """Whether the result can be shown in a view."""
        return mode != ORTHOGONAL or self.comparison is None or self.comparison.has_planes

    def leave_grid(self) -> None:
        """Show a single picture, to draw on."""
        if self.comparison is not None and self.mode in GRIDDED:
            self.mode = RESTORED_ONLY
