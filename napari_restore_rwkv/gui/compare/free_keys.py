"""Temporary key bindings of the viewer, for keys that napari, its plugins and the user leave free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.key_bindings import coerce_keybinding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel


class FreeKeys:
    """Binds keys, and releases them.

    Parameters
    ----------
    actions
        What each key does.
    """

    def __init__(self, viewer: ViewerModel, actions: Mapping[str, Callable[[], None]]) -> None:
        self._viewer, self._actions = viewer, actions
        self._bound: list[str] = []

    def bind(self) -> None:
        """Bind the keys that the viewer does not use yet."""
        for key, action in self._actions.items():
            known = coerce_keybinding(key)
            if known not in self._viewer.keymap and known not in self._viewer.class_keymap:
                self._viewer.bind_key(key, _without_viewer(action))
                self._bound.append(key)

    def unbind(self) -> None:
        """Release the keys."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound.clear()


def _without_viewer(action: Callable[[], None]) -> Callable[[Any], None]:
    def act(viewer: Any) -> None:
        action()

    return act
