"""DICOM series: slices in the order of their positions, in HU, or an error with a message."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicoms import COLUMN, CORNER, GAP, NORMAL, ROW, write_series, write_slice
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import position_mm


def test_slices_are_sorted_by_position_not_by_name(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels, names="cadbe"))
    np.testing.assert_array_equal(scan.voxels, pixels.astype(int) - 1024)


def test_every_voxel_is_at_its_position_in_the_standard(tmp_path, pixels):
    """DICOM PS3.3 C.7.6.2.1.1: corner + row cosines * column spacing * column + column cosines * row spacing * row."""
    scan = read_scan(write_series(tmp_path / "series", pixels))
    np.testing.assert_allclose(scan.spacing_mm, (GAP, 0.7, 0.9), atol=1e-5)
    expected = CORNER + 4 * GAP * NORMAL + ROW * 0.9 * 7 + COLUMN * 0.7 * 3
    np.testing.assert_allclose(position_mm(scan, (4, 3, 7)), expected, atol=1e-4)


def test_values_are_hu_in_int16(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels))
    assert (scan.voxels.dtype, scan.modality, scan.unit) == (np.int16, "CT", "HU")
    assert scan.metadata["modality_reason"] == "the file says modality CT"


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(2, -1000, np.int16), (20, 0, np.int32), (0.5, 0.25, np.float32)]
)
def test_rescale_is_applied(tmp_path, pixels, slope, intercept, dtype):
    scan = read_scan(write_series(tmp_path / "series", pixels, RescaleSlope=slope, RescaleIntercept=intercept))
    np.testing.assert_allclose(scan.voxels, pixels.astype(float) * slope + intercept)
    assert scan.voxels.dtype == dtype


def test_slices_with_different_rescale_get_one_type(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels[:4], names="abcd", RescaleSlope=20, RescaleIntercept=0)
    write_slice(folder / "e.dcm", pixels[4], CORNER + 4 * GAP * NORMAL, RescaleSlope=0.5, RescaleIntercept=0)
    scan = read_scan(folder)
    assert scan.voxels.dtype == np.float32
    np.testing.assert_allclose(scan.voxels[4], pixels[4] * 0.5)
    np.testing.assert_allclose(scan.voxels[0], pixels[0] * 20.0)


def test_nothing_about_the_patient_is_kept(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels))
    assert dict(scan.metadata) == {"source": "series", "modality_reason": "the file says modality CT"}


def test_a_single_file_is_a_scan_of_one_slice(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, SliceThickness=3.0)
    scan = read_scan(folder / "b.dcm")
    np.testing.assert_array_equal(scan.voxels, pixels[3:4].astype(int) - 1024)
    assert scan.spacing_mm == (3.0, 0.7, 0.9)


def test_a_file_is_known_by_its_content(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    (folder / "a.dcm").rename(folder / "IM0001")
    assert read_scan(folder).shape == (5, 6, 8)
    assert read_scan(folder / "IM0001").shape == (1, 6, 8)


def test_other_files_in_the_folder_are_skipped(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.dcm").touch()
    (folder / "more").mkdir()
    report = pydicom.dcmread(folder / "a.dcm")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.SeriesInstanceUID = "9.9"
    report.save_as(folder / "report.dcm")
    assert read_scan(folder).shape == (5, 6, 8)


def test_a_missing_slice_is_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    (folder / "c.dcm").unlink()
    with pytest.raises(
        ScanError, match=r"series: a slice is missing between d\.dcm and b\.dcm \(5\.00 mm apart, elsewhere 2\.50 mm\)"
    ):
        read_scan(folder)


def test_uneven_spacing_is_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    write_slice(folder / "a.dcm", pixels[4], CORNER + 4.4 * GAP * NORMAL)
    with pytest.raises(ScanError, match=r"unevenly spaced, 3\.50 mm between b\.dcm and a\.dcm and 2\.50 mm elsewhere"):
        read_scan(folder)


def test_rounded_positions_are_even_enough(tmp_path, pixels):
    folder = tmp_path / "series"
    folder.mkdir()
    for index, slice_ in enumerate(pixels):
        corner = np.round(CORNER + index * 0.625 * NORMAL, 2)
        write_slice(folder / f"{index}.dcm", slice_, corner)
    assert read_scan(folder).spacing_mm[0] == pytest.approx(0.625, abs=0.005)


def test_several_series_are_listed(tmp_path, pixels):
    folder = write_series(tmp_path / "study", pixels)
    write_series(folder, pixels[:3], names="xyz", SeriesInstanceUID="1.2.3.5", SeriesDescription="Liver late")
    with pytest.raises(
        ScanError,
        match=r'study contains 2 series: 1: "Thorax" \(UID \.\.\.1\.2\.3\.4, 5 images\), 2: "Liver late" '
        r"\(UID \.\.\.1\.2\.3\.5, 3 images\); choose one by its number or the end of its UID",
    ):
        read_scan(folder)


def test_slices_without_a_series_uid_are_one_series(tmp_path, pixels):
    assert read_scan(write_series(tmp_path / "series", pixels, SeriesInstanceUID="")).shape == (5, 6, 8)


def test_a_localizer_within_the_series_is_named(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    write_slice(folder / "scout.dcm", pixels[0], CORNER, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(ScanError, match=r"scout\.dcm has a different size, pixel spacing or orientation than a\.dcm"):
        read_scan(folder)


def test_one_frame_of_several_at_each_position_is_chosen(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, TemporalPositionIdentifier=1)
    write_series(folder, pixels + 1, names="zyxwv", TemporalPositionIdentifier=2)
    with pytest.raises(
        ScanError, match=r"series contains 2 frames \(0: time 1, 1: time 2\); choose one by its time index"
    ):
        read_scan(folder)
    np.testing.assert_array_equal(read_scan(folder, time_index=1).voxels, pixels.astype(int) - 1023)


def test_another_image_at_the_position_of_a_slice_is_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    write_slice(folder / "copy.dcm", pixels[4] + 1, CORNER + 4 * GAP * NORMAL)
    with pytest.raises(ScanError, match="several images at some positions but not at all of them"):
        read_scan(folder)


def write_tilted(folder, pixels, shift):
    """Write slices, each shifted by some mm against the previous one."""
    folder.mkdir()
    for index, slice_ in enumerate(pixels):
        write_slice(folder / f"{index}.dcm", slice_, CORNER + index * (GAP * NORMAL + shift))
    return folder


@pytest.mark.parametrize("rows", [-2, 1, 3])
def test_slices_shifted_by_whole_pixels_are_shifted_back_without_loss(tmp_path, pixels, rows):
    folder = write_tilted(tmp_path / "series", pixels, rows * 0.7 * COLUMN)
    scan = read_scan(folder, correct_tilt=True)
    depth, height, width = pixels.shape
    expected = np.full((depth, height + abs(rows) * (depth - 1), width), int(pixels.min()) - 1024, np.int16)
    for index, slice_ in enumerate(pixels):
        top = index * rows + max(0, -rows * (depth - 1))
        expected[index, top : top + height] = slice_.astype(np.int16) - 1024
    np.testing.assert_array_equal(scan.voxels, expected, strict=True)
    np.testing.assert_allclose(position_mm(scan, (0, max(0, -rows * (depth - 1)), 0)), CORNER, atol=1e-5)
    [note] = scan.metadata["notes"]
    assert note.startswith(
        f"Its slices were shifted back by {abs(rows) * 0.7 * (depth - 1):.1f} mm, as by a gantry tilt"
    )


@pytest.mark.parametrize("shift_mm", [0.5, -0.5, 1.9])
def test_other_shifts_are_interpolated_between_rows(tmp_path, pixels, shift_mm):
    scan = read_scan(write_tilted(tmp_path / "series", pixels, shift_mm * COLUMN), correct_tilt=True)
    rows = (np.array([position_mm(scan, (0, y, 0)) for y in range(scan.shape[1])]) - CORNER) @ COLUMN
    for index, slice_ in enumerate(pixels.astype(float) - 1024):
        own = index * shift_mm + 0.7 * np.arange(len(slice_))
        for x in range(slice_.shape[1]):
            expected = np.interp(
                rows.round(4), own.round(4), slice_[:, x], pixels.min() - 1024.0, pixels.min() - 1024.0
            )
            np.testing.assert_allclose(scan.voxels[index, :, x], expected, atol=0.6)


def test_a_tilted_gantry_is_refused(tmp_path, pixels):
    folder = write_tilted(tmp_path / "series", pixels, 0.5 * COLUMN)
    with pytest.raises(
        ScanError,
        match=r"shifted .* by 2\.0 mm, as by a gantry tilt of 11\.3 degrees; correct the tilt with --correct-tilt",
    ):
        read_scan(folder)


def test_slices_shifted_between_straight_ends_are_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL + 6 * ROW)
    with pytest.raises(ScanError, match=r"shifted relative to each other by up to 6\.0 mm, but not evenly"):
        read_scan(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"NumberOfFrames": 4}, "contains several frames and does not say where each of them is; convert it"),
        ({"PhotometricInterpretation": "RGB"}, r"is a colour \(RGB\) image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"is a colour \(RGB\) image"),
        ({"ImagePositionPatient": None}, "has no position in the patient"),
        ({"PixelSpacing": None}, "has no position in the patient"),
        ({"ModalityLUTSequence": [Dataset()]}, "maps its values through a lookup table"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "has no usable geometry: its rows and columns"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "has no usable geometry: its rows and columns"),
    ],
)
def test_unsupported_slices_are_refused(tmp_path, pixels, changes, words):
    write_slice(tmp_path / "slice.dcm", pixels[0], CORNER, **changes)
    with pytest.raises(ScanError, match=rf"slice\.dcm {words}"):
        read_scan(tmp_path / "slice.dcm")


@pytest.mark.parametrize("content", [None, "notes.txt", "scan.nii"])
def test_a_folder_without_dicom_is_refused(tmp_path, content):
    folder = tmp_path / "folder"
    folder.mkdir()
    if content:
        (folder / content).write_bytes(b"hello")
    with pytest.raises(ScanError, match=r"folder contains no DICOM images; give the folder .* or a \.nii"):
        read_scan(folder)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("source", ["raw", "jpeg 2000"])
def test_a_cut_off_slice_is_refused(tmp_path, source, kept, capfd):
    raw, packed = get_testdata_file("CT_small.dcm"), sample_path("ct_abdomen_dicom") / "0001.dcm"
    content = Path(raw if source == "raw" else packed).read_bytes()
    if source == "raw":
        # CT_small.dcm has some bytes after its pixels, which may be lost.
        content = content[: content.rindex(b"\xfc\xff\xfc\xff")]
    (tmp_path / "slice.dcm").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ScanError, match=r"slice\.dcm cannot be read: its pixels are damaged, cut off"):
        read_scan(tmp_path / "slice.dcm")
    assert capfd.readouterr().err == ""


def test_a_file_cut_off_in_its_header_is_refused(tmp_path):
    content = (sample_path("ct_abdomen_dicom") / "0001.dcm").read_bytes()
    (tmp_path / "slice.dcm").write_bytes(content[:200])
    with pytest.raises(ScanError, match=r"cannot be read: it is damaged or cut off|contains no DICOM images"):
        read_scan(tmp_path / "slice.dcm")


@pytest.mark.slow
def test_jpeg_2000_slices_agree_with_gdcm():
    scan = read_scan(sample_path("ct_abdomen_dicom"))
    names = sorted(sample_path("ct_abdomen_dicom").iterdir(), reverse=True)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(name) for name in names])
    image = reader.Execute()
    np.testing.assert_array_equal(scan.voxels, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(scan.spacing_mm[::-1], image.GetSpacing())
    np.testing.assert_allclose(scan.origin_mm, image.GetOrigin())
    np.testing.assert_allclose(scan.direction.ravel(), image.GetDirection())


@pytest.mark.parametrize(("written", "modality"), [("MR", "MR"), ("US", None), ("", None)])
def test_the_modality_tag_is_read(tmp_path, pixels, written, modality):
    scan = read_scan(write_series(tmp_path / "series", pixels, Modality=written, RescaleIntercept=0))
    assert (scan.modality, scan.unit) == (modality, "")
    assert scan.metadata["modality_reason"] == f"the file says modality {written or '(blank)'}"


def test_a_given_modality_wins_over_the_tag(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels), modality="MR")
    assert (scan.modality, scan.unit, scan.metadata["modality_reason"]) == ("MR", "", "MR was given")


def test_ct_whose_values_are_not_hounsfield_units_is_not_taken_for_it(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels, RescaleType="MGML"))
    assert (scan.modality, scan.unit) == (None, "")
    assert scan.metadata["modality_reason"] == (
        "the file says modality CT, but its values are of type MGML instead of HU"
    )
    assert read_scan(write_series(tmp_path / "hu", pixels, RescaleType="HU")).unit == "HU"


def test_slices_in_different_units_are_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, RescaleType="HU")
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, RescaleType="MGML")
    with pytest.raises(ScanError, match=r"^series: its slices have values in different units \(HU, MGML\)"):
        read_scan(folder)
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, RescaleType="US")
    assert read_scan(folder).unit == "HU"


def test_slices_in_different_frames_of_reference_are_read_with_a_word(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, FrameOfReferenceUID="1.2.3")
    assert "notes" not in read_scan(folder).metadata
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, FrameOfReferenceUID="1.2.4")
    scan = read_scan(folder)
    assert scan.shape == pixels.shape
    assert scan.metadata["notes"] == [
        "Its slices state 2 different frames of reference; their positions are compared all the same."
    ]


def test_pixel_spacing_may_be_rounded_to_different_digits(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, PixelSpacing=[0.976562, 0.976562])
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, PixelSpacing=[0.9766, 0.9766])
    assert read_scan(folder).shape == pixels.shape
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, PixelSpacing=[0.98, 0.98])
    with pytest.raises(ScanError, match="has a different size, pixel spacing or orientation"):
        read_scan(folder)


def test_neighbours_with_different_echo_times_are_read_with_a_word(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels, Modality="MR", EchoTime=10)
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, Modality="MR", EchoTime=100)
    assert read_scan(folder).metadata["notes"] == ["Its slices differ in echo time: 10, 100."]
    write_slice(folder / "c.dcm", pixels[2], CORNER + 2 * GAP * NORMAL, Modality="MR", EchoTime="10.000")
    assert "notes" not in read_scan(folder).metadata


def test_a_rescale_slope_of_zero_is_refused(tmp_path, pixels):
    with pytest.raises(ScanError, match="scales its values by 0 and adds -1024"):
        read_scan(write_series(tmp_path / "series", pixels, RescaleSlope=0))


def test_values_in_the_upper_bits_are_refused(tmp_path, pixels):
    with pytest.raises(ScanError, match=r"in other than the lowest bits \(12 bits, the highest of which is bit 15\)"):
        read_scan(write_series(tmp_path / "series", pixels << 4, BitsStored=12))


def test_the_dose_of_a_radiotherapy_is_not_a_scan(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels[:1], names="a", Modality="RTDOSE", DoseGridScaling=0.001)
    with pytest.raises(ScanError, match=r"a\.dcm contains the dose of a radiotherapy, which is not a scan"):
        read_scan(folder)


def test_a_slice_without_its_number_of_rows_is_refused(tmp_path):
    folder = write_series(tmp_path / "series", np.ones((5, 6, 7), np.uint16))
    data = pydicom.dcmread(folder / "c.dcm")
    del data.Rows
    data.save_as(folder / "c.dcm")
    with pytest.raises(ScanError, match=r"cannot be read: its number of rows or columns is damaged or missing"):
        read_scan(folder)
