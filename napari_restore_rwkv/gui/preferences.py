"""The plugin's settings in napari's *Preferences > Plugins*, kept from session to session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-restore-rwkv"
FASTEST = "fastest"


def chosen_device() -> str:
    """Return the device to choose first: "auto", "cpu" or "cuda"."""
    device = str(getattr(_restoring(), "device", FASTEST))
    return "auto" if device == FASTEST else device


def results_folder() -> Path | None:
    """Return the folder for results; None if none is set, or if it no longer exists."""
    named = str(getattr(_restoring(), "folder", "")).strip()
    folder = Path(named).expanduser()
    return folder if named and folder.is_dir() else None


def scheduler() -> str | None:
    """Return the address of the dask scheduler that was used last; None if there was none."""
    return str(getattr(_restoring(), "scheduler", "")).strip() or None


def remember_scheduler(address: str) -> None:
    """Keep the address of a dask scheduler for the next session."""
    settings = _restoring()
    if settings is not None:
        settings.scheduler = address


def wants_hint() -> bool:
    """Whether to show the first steps."""
    return bool(getattr(_restoring(), "hint", False))


def hint_served() -> None:
    """Remember that a scan was restored, so that the hint is no longer shown."""
    settings = _restoring()
    if settings is not None and settings.hint:
        settings.hint = False


def _restoring() -> Any:
    """The settings; None if the panel is used without the plugin being registered, as in a script."""
    try:
        return get_plugin_settings(PLUGIN).restoring
    except (KeyError, AttributeError):
        return None
