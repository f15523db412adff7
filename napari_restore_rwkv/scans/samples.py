"""Location of the sample scans: inside the installed package, or beside it in a source checkout."""

from __future__ import annotations

from pathlib import Path

import napari_restore_rwkv

from ..errors import ScanError

_FOLDER = "sample_data"


def sample_path(name: str) -> Path:
    """Return the path of a sample scan.

    Parameters
    ----------
    name
        File or folder name inside ``sample_data``, such as ``"mr_t1_mni152.nii.gz"``.

    Raises
    ------
    ScanError
        There is no such sample.
    """
    package_folders = [Path(entry) for entry in napari_restore_rwkv.__path__]
    installed = [folder / _FOLDER for folder in package_folders]
    checkout = [folder.parent / _FOLDER for folder in package_folders]
    folders = [folder for folder in installed + checkout if folder.is_dir()]
    for folder in folders:
        if name and (folder / name).exists():
            return folder / name
    there = sorted({path.name for folder in folders for path in folder.iterdir() if path.suffix != ".md"})
    raise ScanError(
        f'There is no sample scan "{name}"; '
        + (
            f"choose one of {', '.join(there)}."
            if there
            else "the sample_data folder is missing: install the package again."
        )
    )
