"""Writes restored scans as derived DICOM series, and reads their slices."""

import pydicom

from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.dicom.writing import write_derived_series
from napari_restore_rwkv.scans.files import read_scan

RECORD = {
    "software": "napari-restore-rwkv 1.2.3",
    "task": "ct-denoise",
    "weights_sha256": "ab" * 32,
    "mode": "whole slices",
    "notice": "Research use only. Not for diagnosis.",
}
STUDY = {
    "StudyInstanceUID": "1.2.3",
    "FrameOfReferenceUID": "1.2.9",
    "StudyDate": "20240102",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "SeriesNumber": 4,
    "WindowCenter": [40, 300],
    "WindowWidth": [400, 1500],
    "SliceThickness": 2.5,
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
}


def write(scan, folder, source, **options):
    return finish(write_derived_series(scan, folder, source, RECORD, **options))


def slices(folder):
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


def restored(series, change=lambda voxels: voxels - 7, **options):
    scan = read_scan(series, **options)
    return scan.with_voxels(change(scan.voxels))
