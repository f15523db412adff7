"""Refuses outputs that could not be written in the end, before the work starts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError
from ..scans.files import write_scan
from ..scans.scan import Scan
from ..storage.durable import check_folder_of, unwritable
from ..storage.temporary import TemporaryFolder

if TYPE_CHECKING:
    from pathlib import Path


def check_output(output: Path, source: Path, overwrite: bool = False) -> None:
    """Refuse an output that could not be written in the end.

    Raises
    ------
    OutputError
        If the folder is missing or cannot be written to, the suffix is not of a format that keeps the geometry, the
        output is the input or a folder, the name is too long, the file exists (or one beside it that the result would
        replace) and ``overwrite`` is not set, or the voxel file of another scan has the name of the result.
    """
    check_folder_of(output)
    try:
        if source.exists() and output.exists() and output.samefile(source):
            raise OutputError(f"{output} is the scan to be restored: give the result another name.")
        if output.is_dir():
            raise OutputError(f"{output} is a folder: give the name of a file.")
        if output.exists() and not overwrite:
            raise OutputError(f"{output} already exists: give another name, or --overwrite to replace it.")
        # Actually writing a scan of one voxel reveals whatever would stop the result in the end.
        with TemporaryFolder(output.parent) as trial:
            write_scan(Scan(np.zeros((1, 1, 1), np.int16), metadata={"restoration": {}}), trial / output.name)
            beside = [path.name for path in trial.iterdir() if path.name != output.name]
        _check_beside(output, beside, overwrite)
    except OSError as error:
        raise unwritable(output, error) from error


def check_space(output: Path, needed: int) -> None:
    """Refuse a result of this many bytes if it does not fit on the disk, compressed or not."""
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise OutputError(
            f"{output} cannot be written: the result has {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free; "
            "free some space or choose another folder."
        )


def _check_beside(output: Path, names: list[str], overwrite: bool) -> None:
    """Refuse to replace a file beside a new output that exists although the output does not."""
    if output.exists():
        return
    for name in names:
        # The voxels of another scan are not replaced even on request.
        voxels = name.endswith(".raw")
        if output.with_name(name).exists() and (voxels or not overwrite):
            hint = "" if voxels else ", or --overwrite to replace it"
            raise OutputError(
                f"{output} cannot be written: {name} already exists and may belong to another scan; "
                f"give another name{hint}."
            )
