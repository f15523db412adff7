"""Originals from which a DICOM series is derived: compressed, anonymised, without preamble, one of several frames."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from derived_series import restored, slices, write
from dicoms import CORNER, GAP, NORMAL, write_series, write_slice
from pydicom.dataset import Dataset
from pydicom.uid import HTJ2K, ExplicitVRBigEndian, HTJ2KLossless, ImplicitVRLittleEndian, JPEGBaseline8Bit

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import same_geometry


@pytest.mark.parametrize(
    ("flag", "syntax", "expected"),
    [
        ("00", None, "00"),
        ("01", None, "01"),
        ("00", JPEGBaseline8Bit, "01"),
        ("00", HTJ2K, "01"),
        ("00", HTJ2KLossless, "00"),
    ],
)
def test_an_earlier_lossy_compression_stays_marked(tmp_path, folder, flag, syntax, expected):
    tags = pydicom.dcmread(sample_path("ct_abdomen_dicom") / "0001.dcm")
    tags.LossyImageCompression = flag
    source = tmp_path / "one.dcm"
    tags.save_as(source)
    scan = read_scan(source)
    if syntax:
        tags.file_meta.TransferSyntaxUID = syntax
        tags.save_as(source)
    write(scan, folder, source)
    assert slices(folder)[0].LossyImageCompression == expected


def test_an_original_in_implicit_little_endian_is_accepted(series, folder):
    for file in sorted(series.iterdir()):
        tags = pydicom.dcmread(file)
        tags.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        tags.save_as(file, implicit_vr=True, little_endian=True)
    scan = restored(series)
    write(scan, folder, series)
    assert np.array_equal(read_scan(folder).voxels, scan.voxels)


def test_originals_without_a_preamble_are_accepted(series, folder):
    for file in series.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    scan = restored(series)
    write(scan, folder, series)
    assert np.array_equal(read_scan(folder).voxels, scan.voxels)


def test_originals_in_big_endian_order_are_refused(series, folder):
    for file in series.iterdir():
        tags = pydicom.dcmread(file)
        meta, tags = tags.file_meta, Dataset({element.tag: element for element in tags})
        tags.PixelData = np.frombuffer(tags.PixelData, "<u2").astype(">u2").tobytes()
        tags.file_meta, meta.TransferSyntaxUID = meta, ExplicitVRBigEndian
        tags.save_as(file, enforce_file_format=True)
    with pytest.raises(ScanError, match=r"\.dcm is stored in big-endian order, from which no series is derived"):
        write(restored(series), folder, series)


def blank(series, **heads):
    """Blank the UIDs of every slice, as anonymisation does; those in the head of its file change to `heads` only."""
    for file in series.iterdir():
        tags = pydicom.dcmread(file)
        tags.SOPClassUID = tags.SOPInstanceUID = ""
        for name, value in heads.items():
            setattr(tags.file_meta, name, value)
        tags.save_as(file)


def test_blank_uids_are_taken_from_the_head_of_the_file(series, folder):
    before = slices(series)
    blank(series)
    write(restored(series), folder, series)
    sources = {tags.SourceImageSequence[0].ReferencedSOPInstanceUID for tags in slices(folder)}
    assert sources == {tags.SOPInstanceUID for tags in before}
    assert {tags.SOPClassUID for tags in slices(folder)} == {before[0].SOPClassUID}
    assert len({tags.SOPInstanceUID for tags in slices(folder)}) == 5


def test_a_source_without_a_uid_is_not_referred_to(series, folder):
    blank(series, MediaStorageSOPInstanceUID="")
    write(restored(series), folder, series)
    assert not any("SourceImageSequence" in tags for tags in slices(folder))


def test_a_series_that_does_not_say_what_its_images_are_is_refused(series, folder):
    blank(series, MediaStorageSOPClassUID="")
    with pytest.raises(ScanError, match=r"it does not say what kind of image it is \(SOP class\)"):
        write(restored(series), folder, series)
    assert not folder.exists()


def test_a_series_is_derived_from_the_compressed_sample(folder):
    source = sample_path("ct_abdomen_dicom")
    scan = restored(source)
    write(scan, folder, source)
    read = read_scan(folder)
    assert np.array_equal(read.voxels, scan.voxels)
    assert same_geometry(read, scan)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in sorted(folder.iterdir())])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(reader.Execute()), scan.voxels)


def test_a_series_is_derived_from_one_frame_of_several(tmp_path, pixels, folder):
    source = write_series(tmp_path / "series", pixels, TemporalPositionIdentifier=1)
    write_series(source, pixels + 1, names="zyxwv", TemporalPositionIdentifier=2)
    write(restored(source, time_index=1), folder, source, time_index=1)
    assert {tags.TemporalPositionIdentifier for tags in slices(folder)} == {2}


def test_a_series_is_derived_from_a_single_slice(tmp_path, pixels, folder):
    write_slice(tmp_path / "one.dcm", pixels[0], CORNER + GAP * NORMAL, SliceThickness=3.0)
    scan = restored(tmp_path / "one.dcm")
    write(scan, folder, tmp_path / "one.dcm")
    assert np.array_equal(read_scan(folder).voxels, scan.voxels)
