"""Where programs keep what belongs to a user, on each platform.

Kept by hand because these are three places in five lines, and the library platformdirs would be one more dependency of
every cluster node.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_data_folder() -> Path:
    """Return the folder for data of this program: in the platform's place for such, or in ``XDG_DATA_HOME``."""
    if os.name == "nt":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "napari-restore-rwkv"
