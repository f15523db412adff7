"""The contributions in the manifest: reader, writer, sample scans, the panels and the entries of the layer menus."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import progress
from napari.utils.notifications import show_info

from ..errors import ScanError
from ..progress import finish
from ..scans.scan import to_canonical
from ..scans.zarr.reading import is_zarr
from .compare.state import SIDE_BY_SIDE
from .docking import open_panel
from .file_names import SUFFIXES, TIFF_SUFFIXES, stem
from .layers import RECORD, frames_to_layer, image_to_scan, scan_to_layer
from .panels import FINE_TUNE_PANEL, current_viewer, open_restore_panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..scans.frames import Frames

PEEK_AT_FILES, PEEK_AT_FOLDERS = 8, 64
SAMPLES = {
    "ct_abdomen_quarter_dose": ("ct_abdomen_quarter_dose.nii.gz", "CT abdomen, quarter dose", "CT"),
    "ct_abdomen": ("ct_abdomen_dicom", "CT abdomen", "CT"),
    "mr_t1_mni152": ("mr_t1_mni152.nii.gz", "MR T1 average head", "MR"),
    "mr_t1_half_resolution": ("mr_t1_half_resolution.nii.gz", "MR T1, half resolution", "MR"),
    "mr_t1_full_resolution": ("mr_t1_full_resolution.nii.gz", "MR T1, full resolution", "MR"),
    "pet_low_count": ("pet_low_count.nii.gz", "PET phantom, a twelfth of the counts", "PET"),
    "pet_full_count": ("pet_full_count.nii.gz", "PET phantom, all counts", "PET"),
}

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return the reader if this looks like a scan: by its suffix, DICOM's magic, zarr's metadata, or a TIFF's tags."""
    if isinstance(path, list):
        return None
    file = Path(path)
    if file.is_dir():
        return read if is_zarr(file) or _looks_like_dicom_folder(file) else None
    if file.name.lower().endswith(TIFF_SUFFIXES):
        return read if _is_stack(file) else None
    return read if file.name.lower().endswith(SUFFIXES) or _is_dicom(file) else None


def read(path: str) -> list[LayerData]:
    """Read a scan as an image layer in mm, with its array axes turned closest to superior, posterior, left.

    Several frames become one layer with four axes, several series one layer each.
    Zarr folders, HDF5 and large files stay on disk, and are read slice by slice when displayed.
    """
    from ..scans.frames import opening_all

    file = Path(path)
    steps = opening_all(file)
    with ExitStack() as stack:
        bar = None
        try:
            while True:
                step = next(steps)
                # Only unpacking a large compressed file takes more than one step.
                if bar is None:
                    bar = stack.enter_context(progress(total=step.total, desc=f"unpacking {file.name}"))
                bar.update(step.done - bar.n)
        except StopIteration as end:
            found = end.value
    return [_layer_of(frames, file) for frames in found]


def _layer_of(frames: Frames, file: Path) -> LayerData:
    scan = frames.scans[0]
    for words in scan.metadata.get("notes", ()):
        show_info(f"{file.name}: {words}")
    turned = replace(frames, scans=tuple(to_canonical(one) for one in frames.scans))
    name = f"{stem(file)} {frames.title}".strip()
    layer = frames_to_layer(turned, name) if len(frames.scans) > 1 else scan_to_layer(turned.scans[0], name)
    opened = {"path": str(frames.path.absolute()), "choices": [dict(choice) for choice in frames.choices]}
    layer[1]["metadata"][RECORD].update(opened)
    return layer


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer with its geometry, and a record of how it was restored beside it."""
    from ..scans.export import export_scan
    from ..scans.files import write_scan

    scan = image_to_scan(data[0] if attributes.get("multiscale") else data, attributes)
    if isinstance(scan.voxels, np.ndarray):
        write_scan(scan, path)
    else:
        # Scans that are read slice by slice need not fit into memory.
        finish(export_scan(scan, Path(path)))
    beside = [f"{path}.json"] if "restoration" in scan.metadata else []
    return [path, *beside]


def open_ct_abdomen_quarter_dose() -> list[LayerData]:
    """Open the sample scan with simulated quarter-dose noise."""
    return _open_sample("ct_abdomen_quarter_dose")


def open_ct_abdomen() -> list[LayerData]:
    """Open the sample DICOM series."""
    return _open_sample("ct_abdomen")


def open_mr_t1_mni152() -> list[LayerData]:
    """Open the sample MR scan."""
    return _open_sample("mr_t1_mni152")


def open_mr_t1_half_resolution() -> list[LayerData]:
    """Open slices of the sample MR scan as an acquisition at half the resolution shows them."""
    return _open_sample("mr_t1_half_resolution")


def open_mr_t1_full_resolution() -> list[LayerData]:
    """Open the same slices of the sample MR scan as they are."""
    return _open_sample("mr_t1_full_resolution")


def open_pet_low_count() -> list[LayerData]:
    """Open the sample PET phantom from a twelfth of its counts."""
    return _open_sample("pet_low_count")


def open_pet_full_count() -> list[LayerData]:
    """Open the sample PET phantom from all of its counts."""
    return _open_sample("pet_full_count")


def restore_selected_layer() -> None:
    """Open the panel with the selected layer chosen."""
    viewer = current_viewer()
    open_restore_panel(viewer).choose_layer(viewer.layers.selection.active)


def compare_result() -> None:
    """Show the last result beside its input."""
    panel = open_restore_panel(current_viewer())
    if panel.compare.comparison is None:
        panel.say("There is nothing to compare yet: restore a scan first.")
    panel.compare.choose_mode(SIDE_BY_SIDE)


def annotate_for_fine_tuning() -> None:
    """Open the Fine-tune panel with an empty Labels layer on the selected scan."""
    from .fine_tune.panel import FineTunePanel

    viewer = current_viewer()
    chosen = viewer.layers.selection.active
    open_panel(viewer, FineTunePanel, FINE_TUNE_PANEL).annotate(chosen)


def _open_sample(key: str) -> list[LayerData]:
    from ..scans.files import read_scan
    from ..scans.samples import sample_path

    file, name, modality = SAMPLES[key]
    scan = read_scan(sample_path(file), modality=modality)
    known = {**scan.metadata, "modality_reason": f"this sample is {modality}"}
    return [scan_to_layer(to_canonical(scan.with_voxels(scan.voxels, metadata=known)), name)]


def _looks_like_dicom_folder(folder: Path) -> bool:
    for seen, (place, folders, names) in enumerate(os.walk(folder), 1):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in sorted(names) if not name.startswith(".")][:PEEK_AT_FILES]:
            if _is_dicom(Path(place) / name):
                return True
        if seen >= PEEK_AT_FOLDERS:
            return False
    return False


def _is_stack(file: Path) -> bool:
    """Whether a TIFF contains grey slices; colour images are left to other readers."""
    from ..scans.tiff.stack import tiff_volume

    try:
        tiff_volume(file)
    except (ScanError, OSError):
        return False
    return True


def _is_dicom(file: Path) -> bool:
    # It imports pydicom, which most files do not need.
    from ..scans.dicom.detection import is_dicom

    try:
        return file.is_file() and is_dicom(file)
    except OSError:
        return False
