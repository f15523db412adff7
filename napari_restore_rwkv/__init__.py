"""Restoration of CT, MR and PET scans with Restore-RWKV, in napari and on the command line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import CheckpointError, DeviceError, OutputError, RestoreError, ScanError
    from .front_door import restore
    from .jobs.job import restore_to_zarr
    from .metrics import evaluate
    from .network.checkpoint import load_checkpoint
    from .network.model import RestoreRWKV
    from .progress import Phase, Progress, finish
    from .restoration.restore import iter_restore
    from .restoration.tiles import Tile
    from .scans.files import read_scan, write_scan
    from .scans.opening import open_scan
    from .scans.scan import Scan
    from .training.config import TrainConfig
    from .training.fine_tune import fine_tune
    from .training.from_scratch import train

    __version__: str

__all__ = [
    "CheckpointError",
    "DeviceError",
    "OutputError",
    "Phase",
    "Progress",
    "RestoreError",
    "RestoreRWKV",
    "Scan",
    "ScanError",
    "Tile",
    "TrainConfig",
    "__version__",
    "evaluate",
    "fine_tune",
    "finish",
    "iter_restore",
    "load_checkpoint",
    "open_scan",
    "read_scan",
    "restore",
    "restore_to_zarr",
    "train",
    "write_scan",
]

_HOMES = {
    "CheckpointError": ".errors",
    "DeviceError": ".errors",
    "OutputError": ".errors",
    "Phase": ".progress",
    "Progress": ".progress",
    "RestoreError": ".errors",
    "RestoreRWKV": ".network.model",
    "Scan": ".scans.scan",
    "ScanError": ".errors",
    "Tile": ".restoration.tiles",
    "TrainConfig": ".training.config",
    "evaluate": ".metrics",
    "fine_tune": ".training.fine_tune",
    "finish": ".progress",
    "iter_restore": ".restoration.restore",
    "load_checkpoint": ".network.checkpoint",
    "open_scan": ".scans.opening",
    "read_scan": ".scans.files",
    "restore": ".front_door",
    "restore_to_zarr": ".jobs.job",
    "train": ".training.from_scratch",
    "write_scan": ".scans.files",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch and SimpleITK take seconds to load."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("napari-restore-rwkv")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
