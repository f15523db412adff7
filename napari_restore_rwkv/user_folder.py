"""The folder for per-user application data, on each platform.

Written by hand because these are three paths in five lines, and the library platformdirs would be one more dependency
on every cluster node.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_data_folder() -> Path:
    """Return the folder for this program's data: in the platform's usual place, or in ``XDG_DATA_HOME``."""
    if os.name == "nt":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "napari-restore-rwkv"
