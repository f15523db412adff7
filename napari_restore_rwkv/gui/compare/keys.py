"""A key for each view of a result, unless napari or a plugin uses it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .free_keys import FreeKeys
from .state import BLINK, ORTHOGONAL, OVER_INPUT, OWN_VIEW, RESTORED_ONLY, SIDE_BY_SIDE, SWIPE

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


def layout_keys(viewer: ViewerModel, choose: Callable[[str], None]) -> FreeKeys:
    """Return the keys of the views; `choose` is called with the name of one."""
    return FreeKeys(viewer, {key: partial(choose, mode) for mode, key in KEYS.items()})


def key_of(mode: str) -> str:
    """Return the key of a view as shown to the user, such as ``"Alt+2"``."""
    return KEYS[mode].replace("-", "+")
