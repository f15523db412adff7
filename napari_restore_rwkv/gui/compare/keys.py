"""A key for each way of looking at a result, as far as napari and its plugins leave them free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.key_bindings import coerce_keybinding

from .compare_view import BLINK, ORTHOGONAL, OVER_INPUT, OWN_VIEW, RESTORED_ONLY, SIDE_BY_SIDE, SWIPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

KEYS = {
    SIDE_BY_SIDE: "Alt-1",
    SWIPE: "Alt-2",
    BLINK: "Alt-3",
    OVER_INPUT: "Alt-4",
    RESTORED_ONLY: "Alt-5",
    ORTHOGONAL: "Alt-6",
    OWN_VIEW: "Alt-0",
}


class LayoutKeys:
    """Binds the keys while there is a result.

    Parameters
    ----------
    choose
        Called with the name of the view.
    """

    def __init__(self, viewer: ViewerModel, choose: Callable[[str], None]) -> None:
        self._viewer, self._choose = viewer, choose
        self._bound: list[str] = []

    def bind(self) -> None:
        """Take the keys that mean nothing to the viewer yet."""
        for mode, key in KEYS.items():
            known = coerce_keybinding(key)
            if known not in self._viewer.keymap and known not in self._viewer.class_keymap:
                self._viewer.bind_key(key, lambda viewer, mode=mode: self._choose(mode))
                self._bound.append(key)

    def unbind(self) -> None:
        """Give the keys back."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound.clear()


def key_of(mode: str) -> str:
    """Return the key of a view as it is written, such as ``"Alt+2"``."""
    return KEYS[mode].replace("-", "+")
