"""A derived DICOM series: the patient, study and place of the original, new pixels and a new identity."""

import sys
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from derived_series import RECORD, restored, slices, write
from dicoms import pet_tags, write_series
from pydicom.dataset import Dataset
from pydicom.uid import PYDICOM_ROOT_UID

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.dicom import writing as dicom_write
from napari_restore_rwkv.scans.dicom.values import stored_as
from napari_restore_rwkv.scans.dicom.writing import write_derived_series
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import same_geometry

KEPT = [
    *("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "SOPClassUID", "Modality"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("WindowCenter", "WindowWidth", "BurnedInAnnotation"),
]


def test_voxels_and_geometry_survive_the_round_trip(series, folder):
    scan = restored(series)
    assert write(scan, folder, series) == 0
    read = read_scan(folder)
    assert np.array_equal(read.voxels, scan.voxels)
    assert read.voxels.dtype == np.int16
    assert same_geometry(read, scan)
    assert (read.modality, read.unit) == ("CT", "HU")


def test_patient_study_and_position_are_those_of_the_original_image(series, folder):
    write(restored(series), folder, series)
    originals = {tags.SOPInstanceUID: tags for tags in slices(series)}
    for tags in slices(folder):
        [source] = tags.SourceImageSequence
        original = originals.pop(source.ReferencedSOPInstanceUID)
        assert source.ReferencedSOPClassUID == original.SOPClassUID
        assert [tags[name] for name in KEPT] == [original[name] for name in KEPT]
    assert not originals


def test_new_attributes_say_how_the_series_was_made(series, folder):
    write(restored(series), folder, series)
    new = slices(folder)
    assert len({tags.SOPInstanceUID for tags in new}) == len(new) == 5
    assert {tags.file_meta.MediaStorageSOPInstanceUID for tags in new} == {tags.SOPInstanceUID for tags in new}
    [uid] = {tags.SeriesInstanceUID for tags in new}
    assert uid.startswith(PYDICOM_ROOT_UID)
    assert new[0].SOPInstanceUID.startswith(PYDICOM_ROOT_UID)
    assert list(new[0].ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert new[0].SeriesDescription == "Thorax restored"
    assert new[0].SeriesNumber == 1004
    words = new[0].DerivationDescription
    for part in ("napari-restore-rwkv 1.2.3", "ab" * 32, "whole slices", "values exact", "Research use only"):
        assert part in words
    assert new[0].ContributingEquipmentSequence[0].SoftwareVersions == "1.2.3"


def test_a_filter_is_not_called_a_network(series, folder):
    record = {**RECORD, "weights": "non-local means", "weights_sha256": ""}
    finish(write_derived_series(restored(series), folder, series, record))
    words = slices(folder)[0].DerivationDescription
    assert "napari-restore-rwkv 1.2.3 (non-local means), task ct-denoise" in words
    assert "Restore-RWKV" not in words


@pytest.mark.parametrize(("modality", "expected"), [("MR", "US"), ("CT", None)])
def test_rescaled_values_have_a_rescale_type_if_none_is_implied(tmp_path, pixels, folder, modality, expected):
    series = write_series(tmp_path / "series", pixels, Modality=modality)
    write(restored(series), folder, series)
    assert slices(folder)[0].get("RescaleType") == expected


@pytest.mark.parametrize(
    ("values", "dtype", "signed", "slope"),
    [
        ((-1024, 3071), np.int16, 1, 1),
        ((0, 60000), np.uint16, 0, 1),
        ((-2000, 60000), np.int32, 0, 1),
    ],
)
def test_whole_numbers_are_exact(series, folder, rng, values, dtype, signed, slope):
    scan = restored(series, lambda voxels: np.linspace(*values, voxels.size).astype(dtype).reshape(voxels.shape))
    assert write(scan, folder, series) == 0
    assert np.array_equal(read_scan(folder).voxels, scan.voxels)
    tags = slices(folder)[0]
    assert (tags.PixelRepresentation, float(tags.RescaleSlope), tags.BitsAllocated) == (signed, slope, 16)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_numbers_are_within_half_a_step_that_is_declared(series, folder, rng, dtype):
    scan = restored(series, lambda voxels: (1e5 * rng.normal(0, 1, voxels.shape)).astype(dtype))
    step = write(scan, folder, series)
    values = scan.voxels.astype(float)
    assert step == pytest.approx((values.max() - values.min()) / 65534, rel=1e-6)
    tags = slices(folder)
    [slope] = {float(tag.RescaleSlope) for tag in tags}
    assert slope == pytest.approx(step, rel=1e-9)
    assert f"values rounded to steps of {step:.3g} HU" in tags[0].DerivationDescription
    # What is read is float32, which has some digits less than the step asks for.
    assert np.abs(read_scan(folder).voxels - values).max() <= step / 2 * 1.01


def test_a_constant_float_scan_survives_the_round_trip(series, folder):
    scan = restored(series, lambda voxels: np.full(voxels.shape, 0.1, np.float32))
    write(scan, folder, series)
    np.testing.assert_allclose(read_scan(folder).voxels, 0.1, rtol=1e-6)


def test_pet_goes_back_to_its_own_unit_with_a_slope_for_each_slice(tmp_path, pixels, folder, rng):
    series = write_series(tmp_path / "pet", pixels, **pet_tags())
    scan = restored(series, lambda voxels: (voxels * rng.uniform(0.1, 1.3, (5, 1, 1))).astype(np.float32))
    assert scan.unit == "SUV"
    step = write(scan, folder, series)
    read = read_scan(folder)
    assert (read.unit, read.modality) == ("SUV", "PET")
    slopes = {float(tags.RescaleSlope) for tags in slices(folder)}
    assert len(slopes) == 5
    assert {float(tags.RescaleIntercept) for tags in slices(folder)} == {0}
    assert {tags.Units for tags in slices(folder)} == {"BQML"}
    peaks = scan.voxels.max(axis=(1, 2))
    assert step == pytest.approx(peaks.max() / 32767, rel=1e-6)
    assert (np.abs(read.voxels - scan.voxels).max(axis=(1, 2)) <= peaks / 32767 / 2 * 1.01).all()


def test_counts_of_philips_scanners_keep_their_factor(tmp_path, pixels, folder):
    series = write_series(tmp_path / "pet", pixels, **pet_tags(Units="CNTS"))
    for file in series.iterdir():
        tags = pydicom.dcmread(file)
        tags.private_block(0x7053, "Philips PET Private Group", create=True).add_new(0, "DS", "0.005")
        tags.private_block(0x0099, "Somebody", create=True).add_new(1, "LO", "secret")
        tags.save_as(file)
    scan = restored(series, lambda voxels: np.asarray(voxels * 0.9, np.float32))
    assert scan.unit == "SUV"
    write(scan, folder, series)
    read = read_scan(folder)
    assert read.unit == "SUV"
    np.testing.assert_allclose(read.voxels, scan.voxels, atol=scan.voxels.max() / 32767)
    assert not [element for tags in slices(folder) for element in tags if element.tag.group == 0x0099]


def test_the_padding_value_means_the_same_value(tmp_path, pixels, folder):
    series = write_series(tmp_path / "series", pixels, PixelPaddingValue=24, SmallestImagePixelValue=24)
    write(restored(series), folder, series)
    [padding] = {tags.PixelPaddingValue for tags in slices(folder)}
    assert padding == 24 - 1024
    assert "SmallestImagePixelValue" not in slices(folder)[0]


def test_attributes_about_the_old_pixels_are_left_out(series, folder):
    scan = restored(series)
    for file in sorted(series.iterdir()):
        tags = pydicom.dcmread(file)
        tags.private_block(0x2005, "SCANNER", create=True).add_new(0x0E, "FL", 3.5)
        tags.RealWorldValueMappingSequence = [Dataset()]
        tags.HistogramSequence = [Dataset()]
        tags.ExtendedOffsetTable = bytes(8)
        tags.add_new(0x60000010, "US", 6)
        tags.add_new(0x60020010, "US", 6)
        tags.add_new(0x60023000, "OW", b"\0\0" * 3)
        tags.save_as(file)
    write(scan, folder, series)
    for tags in slices(folder):
        assert not [element for element in tags if element.tag.is_private]
        assert not {"RealWorldValueMappingSequence", "HistogramSequence", "ExtendedOffsetTable"} & set(tags.dir())
        assert (0x6000, 0x0010) not in tags
        assert (0x6002, 0x3000) in tags


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scan: scan.with_voxels(scan.voxels[:4]), "The result has 4 x 6 x 8 voxels, but series has 5 x 6 x 8"),
        (lambda scan: scan.with_voxels(scan.voxels, origin_mm=(0, 0, 0)), "and series differ in position"),
        (
            lambda scan: scan.with_voxels(scan.voxels, modality="MR", unit=""),
            "The result is MR, but series is CT: give",
        ),
        (
            lambda scan: scan.with_voxels(scan.voxels, unit="SUV"),
            "in SUV, but series would be read in HU",
        ),
        (lambda scan: scan.with_voxels(scan.voxels + np.float32(np.nan)), "Slice 0 contains NaN or infinite values"),
    ],
)
def test_a_scan_that_is_not_a_result_of_the_series_is_refused(series, folder, change, words):
    with pytest.raises(OutputError, match=words):
        write(change(read_scan(series)), folder, series)
    assert not folder.exists()


def test_an_existing_folder_is_never_changed(series, folder):
    folder.mkdir()
    with pytest.raises(OutputError, match="already exists: give the name of a folder that does not exist yet"):
        write(restored(series), folder, series)
    assert list(folder.iterdir()) == []


def test_a_stopped_export_leaves_nothing(series, folder):
    steps = write_derived_series(restored(series), folder, series, RECORD)
    for _ in range(8):
        next(steps)
    steps.close()
    assert {path.name for path in series.parent.iterdir()} == {"series"}


def test_a_slice_that_is_not_read_back_correctly_is_reported(series, folder, monkeypatch):
    scan = restored(series)
    monkeypatch.setattr(dicom_write, "pydicom", SimpleNamespace(dcmread=lambda _: SimpleNamespace(PixelData=b"")))
    with pytest.raises(OutputError, match=r"0001\.dcm came out incomplete"):
        write(scan, folder, series)
    assert not folder.exists()


@pytest.mark.parametrize(("low", "high"), [(1e-8, 3e-8), (-1e6, 1e-3), (0.0, 1e12), (-5.5, -5.25)])
def test_the_step_is_as_small_as_sixteen_bits_allow(low, high):
    way = stored_as(low, high, whole=False, from_zero=False)
    values = np.linspace(low, high, 1001)
    back = way.stored(values) * float(way.slope) + float(way.intercept)
    assert max(len(way.slope), len(way.intercept)) <= 16
    assert np.abs(back - values).max() <= 0.5001 * float(way.slope)
    assert float(way.slope) == pytest.approx((high - low) / 65534, rel=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_left(series, folder, tmp_path):
    import resource

    scan = read_scan(series)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OutputError, match=r"^restored cannot be written \(no space is left on the disk\)"):
            finish(write_derived_series(scan, folder, series, RECORD))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [series]
