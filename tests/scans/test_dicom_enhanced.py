"""Enhanced multi-frame files, against the same scan as single slices; and packed pixels, against plain ones."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicoms import COLUMN, CORNER, GAP, NORMAL, ROW, write_series, write_slice
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from napari_restore_rwkv.errors import OutputError, ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.dicom import decoding, enhanced
from napari_restore_rwkv.scans.dicom.errors import SeveralSeriesError
from napari_restore_rwkv.scans.dicom.writing import write_derived_series
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import same_geometry
from napari_restore_rwkv.scans.volume.files import SeveralFramesError


def group(**tags):
    inside = Dataset()
    for name, value in tags.items():
        setattr(inside, name, value)
    return [inside]


def frame(corner, **more):
    made = Dataset()
    made.PlanePositionSequence = group(ImagePositionPatient=[round(float(value), 6) for value in corner])
    for name, value in more.items():
        setattr(made, name, value)
    return made


def write_enhanced(path, pixels, frames, modality="MR", **shared):
    """Write one file; `frames` are the functional groups of each frame, `shared` more of those that all share."""
    common = Dataset()
    common.PlaneOrientationSequence = group(ImageOrientationPatient=[*ROW, *COLUMN])
    common.PixelMeasuresSequence = group(PixelSpacing=[0.7, 0.9], SliceThickness=2.0)
    for name, value in shared.items():
        setattr(common, name, value)
    write_slice(
        path,
        pixels.reshape(-1, pixels.shape[-1]),
        CORNER,
        Modality=modality,
        Rows=pixels.shape[-2],
        NumberOfFrames=len(frames),
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        RescaleSlope=None,
        RescaleIntercept=None,
        SharedFunctionalGroupsSequence=[common],
        PerFrameFunctionalGroupsSequence=frames,
    )
    return path


def test_an_enhanced_file_is_the_scan_of_its_slices(tmp_path, pixels):
    """Frames in any order, with a slope of their own, as PET and Philips MR have them."""
    order = [3, 0, 4, 1, 2]
    slopes = {index: 1.0 + index for index in range(5)}
    frames = [
        frame(
            CORNER + index * GAP * NORMAL,
            PixelValueTransformationSequence=group(RescaleSlope=slopes[index], RescaleIntercept=-10.0),
        )
        for index in order
    ]
    scan = read_scan(write_enhanced(tmp_path / "enhanced.dcm", pixels[order], frames))
    plain = read_scan(write_series(tmp_path / "plain", pixels, Modality="MR", RescaleIntercept=0))
    assert same_geometry(scan, plain)
    assert scan.spacing_mm == pytest.approx((GAP, 0.7, 0.9))
    for index in range(5):
        np.testing.assert_array_equal(scan.voxels[index], pixels[index] * slopes[index] - 10.0)
    assert (scan.modality, scan.acquired_along) == ("MR", 0)


def _changed(path, **changes):
    data = pydicom.dcmread(path)
    for name, value in changes.items():
        setattr(data, name, value)
    data.save_as(path)


def test_frames_of_a_concatenation_are_counted_over_its_files(tmp_path, rng):
    """Three volumes of four slices in two files; nothing but the order of the frames tells them apart."""
    volumes = rng.integers(0, 3000, (3, 4, 6, 8), dtype=np.uint16)
    whole = volumes.reshape(12, 6, 8)
    (tmp_path / "scan").mkdir()
    for number, offset in enumerate((0, 6)):
        frames = [frame(CORNER + (offset + index) % 4 * GAP * NORMAL) for index in range(6)]
        # The second file comes first by its name, and both have the same number.
        path = write_enhanced(tmp_path / "scan" / f"{'ba'[number]}.dcm", whole[offset : offset + 6], frames)
        _changed(path, ConcatenationUID="1.2.7", ConcatenationFrameOffsetNumber=offset, InstanceNumber=1)
    for number in range(3):
        np.testing.assert_array_equal(read_scan(tmp_path / "scan", time_index=number).voxels, volumes[number])


@pytest.mark.parametrize("named", [True, False])
def test_each_of_two_files_is_a_frame_of_its_own(tmp_path, pixels, named):
    """Magnitude and phase with slices in opposite order, told apart by name, or by the numbers of the files."""
    (tmp_path / "scan").mkdir()
    for number, order in enumerate(([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])):
        frames = [frame(CORNER + index * GAP * NORMAL) for index in order]
        kind = {"MRImageFrameTypeSequence": group(ComplexImageComponent=("MAGNITUDE", "PHASE")[number])}
        path = tmp_path / "scan" / f"{number}.dcm"
        write_enhanced(path, pixels[order] + number, frames, **(kind if named else {}))
        _changed(path, InstanceNumber=1 if named else number + 1)
    for number in (0, 1):
        np.testing.assert_array_equal(read_scan(tmp_path / "scan", time_index=number).voxels, pixels + number)
    with pytest.raises(SeveralFramesError) as caught:
        read_scan(tmp_path / "scan")
    assert list(caught.value.names) == (["MAGNITUDE", "PHASE"] if named else ["frame 0", "frame 1"])


@pytest.mark.parametrize("apart", ["turned", "moved"])
def test_stacks_in_different_places_are_a_choice(tmp_path, rng, apart):
    pixels = rng.integers(0, 3000, (6, 6, 8), dtype=np.uint16)
    frames = []
    for index in range(6):
        gap = 20.0 if apart == "moved" and index > 2 else 0.0
        made = frame(CORNER + (index * GAP + gap) * NORMAL, FrameContentSequence=group(StackID=str(index // 3 + 1)))
        turned = [*COLUMN, *ROW] if apart == "turned" and index > 2 else [*ROW, *COLUMN]
        made.PlaneOrientationSequence = group(ImageOrientationPatient=turned)
        frames.append(made)
    path = write_enhanced(tmp_path / "e.dcm", pixels, frames)
    with pytest.raises(SeveralSeriesError, match=r"1: .*stack 1, 3 images\), 2: .*stack 2, 3 images"):
        read_scan(path)
    np.testing.assert_array_equal(read_scan(path, series="stack 1").voxels, pixels[:3])
    second = read_scan(path, series="2").voxels
    np.testing.assert_array_equal(second, pixels[3:] if apart == "moved" else pixels[:2:-1])


def test_stacks_that_form_one_volume_are_one(tmp_path, pixels):
    frames = [
        frame(CORNER + index * GAP * NORMAL, FrameContentSequence=group(StackID=str(index // 3))) for index in range(5)
    ]
    np.testing.assert_array_equal(read_scan(write_enhanced(tmp_path / "e.dcm", pixels, frames)).voxels, pixels)


def test_functional_groups_that_frames_have_in_common_are_parsed_once(tmp_path, rng, monkeypatch):
    """A file may have tens of thousands of frames."""
    parsed = []
    real = enhanced._elements_of
    monkeypatch.setattr(enhanced, "_elements_of", lambda *given: parsed.append(given[0]) or real(*given))
    slope = {"RescaleSlope": 2.0, "RescaleIntercept": -10.0}
    frames = [
        frame(CORNER + index * GAP * NORMAL, PixelValueTransformationSequence=group(**slope)) for index in range(40)
    ]
    pixels = rng.integers(0, 3000, (40, 6, 8), dtype=np.uint16)
    scan = read_scan(write_enhanced(tmp_path / "enhanced.dcm", pixels, frames))
    np.testing.assert_array_equal(scan.voxels, pixels * 2.0 - 10.0)
    assert len(parsed) == 40 + 1 + 2


def test_plain_pixels_of_all_frames_are_decoded_together(tmp_path, pixels, monkeypatch):
    decoded = []
    real = decoding.pixel_array
    monkeypatch.setattr(decoding, "pixel_array", lambda *given, **how: decoded.append(how) or real(*given, **how))
    frames = [frame(CORNER + index * GAP * NORMAL) for index in range(5)]
    scan = read_scan(write_enhanced(tmp_path / "enhanced.dcm", pixels, frames))
    np.testing.assert_array_equal(scan.voxels, pixels)
    one = read_scan(write_enhanced(tmp_path / "one.dcm", pixels[:1], frames[:1]))
    np.testing.assert_array_equal(one.voxels, pixels[:1])
    assert len(decoded) == 2


def test_functional_groups_of_undefined_length_are_those_of_defined_length(tmp_path, pixels):
    frames = [
        frame(
            CORNER + index * GAP * NORMAL,
            PixelValueTransformationSequence=group(RescaleSlope=1.0 + index, RescaleIntercept=0.0),
        )
        for index in range(5)
    ]
    plain = write_enhanced(tmp_path / "plain.dcm", pixels, frames)
    data = pydicom.dcmread(plain)
    for inside in data.PerFrameFunctionalGroupsSequence:
        for element in inside:
            element.is_undefined_length = True
    data.save_as(tmp_path / "other.dcm")
    assert (tmp_path / "other.dcm").stat().st_size > plain.stat().st_size
    np.testing.assert_array_equal(read_scan(tmp_path / "other.dcm").voxels, read_scan(plain).voxels)


@pytest.mark.parametrize("how", ["deflated", "without a transfer syntax"])
def test_frames_of_an_enhanced_file_that_is_read_as_a_whole(tmp_path, pixels, how):
    frames = [frame(CORNER + index * GAP * NORMAL) for index in range(5)]
    plain = write_enhanced(tmp_path / "plain.dcm", pixels, frames)
    data = pydicom.dcmread(plain)
    other = tmp_path / "other.dcm"
    if how == "deflated":
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(other)
    else:
        data.file_meta.clear()
        data.save_as(other, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(read_scan(other).voxels, read_scan(plain).voxels)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_a_deflated_file_with_padding_behind_its_stream_is_read(tmp_path, padding):
    """The check of its size went on for ever where more than a megabyte came out of one block with the padding."""
    path = tmp_path / "slice.dcm"
    pixels = np.full((900, 1000), 7, np.uint16)
    write_slice(path, pixels, CORNER, RescaleIntercept=0)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    path.write_bytes(path.read_bytes() + bytes(padding))
    np.testing.assert_array_equal(read_scan(path).voxels[0], pixels)


def test_the_frames_of_two_echoes_are_separated(tmp_path, rng):
    pixels = rng.integers(0, 3000, (6, 6, 8), dtype=np.uint16)
    frames = [
        frame(CORNER + (at // 2) * GAP * NORMAL, MREchoSequence=group(EffectiveEchoTime=(30.0, 10.0)[at % 2]))
        for at in range(6)
    ]
    path = write_enhanced(tmp_path / "enhanced.dcm", pixels, frames)
    with pytest.raises(SeveralFramesError, match=r"2 frames \(0: TE 10 ms, 1: TE 30 ms\)"):
        read_scan(path)
    np.testing.assert_array_equal(read_scan(path, time_index=0).voxels, pixels[1::2])
    np.testing.assert_array_equal(read_scan(path, time_index=1).voxels, pixels[::2])


def test_diffusion_and_time_of_frames_are_read(tmp_path, rng):
    pixels = rng.integers(0, 3000, (4, 6, 8), dtype=np.uint16)
    frames = [
        frame(
            CORNER + (at % 2) * GAP * NORMAL,
            MRDiffusionSequence=group(DiffusionBValue=(0.0, 1000.0)[at // 2]),
            FrameContentSequence=group(TemporalPositionIndex=at // 2 + 1),
        )
        for at in range(4)
    ]
    with pytest.raises(SeveralFramesError, match=r"\(0: b 0, 1: b 1000\)"):
        read_scan(write_enhanced(tmp_path / "enhanced.dcm", pixels, frames))


def test_a_missing_frame_is_a_missing_slice(tmp_path, pixels):
    frames = [frame(CORNER + index * GAP * NORMAL) for index in (0, 1, 3, 4)]
    with pytest.raises(ScanError, match=r"a slice is missing between frame 1 of e\.dcm and frame 2 of e\.dcm"):
        read_scan(write_enhanced(tmp_path / "e.dcm", pixels[:4], frames))


@pytest.mark.parametrize(
    "frames",
    [
        lambda whole: [],
        lambda whole: whole[:3],
        lambda whole: [Dataset() for _ in whole],
    ],
)
def test_frames_without_a_position_are_refused(tmp_path, pixels, frames):
    whole = [frame(CORNER + index * GAP * NORMAL) for index in range(5)]
    path = write_enhanced(tmp_path / "e.dcm", pixels, whole)
    data = pydicom.dcmread(path)
    data.PerFrameFunctionalGroupsSequence = frames(whole)
    data.save_as(path)
    with pytest.raises(
        ScanError,
        match=r"^e\.dcm (contains several frames and does not say|cannot be read: it contains 5 frames, but says only|"
        r"has no position in the patient)",
    ):
        read_scan(path)


def test_a_derived_series_of_an_enhanced_file_is_refused(tmp_path, pixels):
    frames = [frame(CORNER + index * GAP * NORMAL) for index in range(5)]
    path = write_enhanced(tmp_path / "e.dcm", pixels, frames)
    with pytest.raises(OutputError, match=r"e\.dcm is an enhanced \(multi-frame\) file"):
        finish(write_derived_series(read_scan(path), tmp_path / "derived", path, {}))


@pytest.mark.parametrize("packed", ["RLE", "jp2klossless", "jpeg_ls_lossless", "implicit", "bigendian"])
def test_packed_pixels_are_the_plain_ones(packed):
    """One image of the pydicom project, packed by different tools."""
    plain, other = (read_scan(get_testdata_file(f"MR_small{end}.dcm")) for end in ("", f"_{packed}"))
    np.testing.assert_array_equal(other.voxels, plain.voxels)
    assert same_geometry(other, plain)


def test_lossless_jpeg_is_read(tmp_path, rng):
    pixels = rng.integers(0, 3000, (32, 24), dtype=np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.GetImageFromArray(pixels))
    data = pydicom.dcmread(tmp_path / "packed.dcm")
    assert data.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [1, 1]
    data.save_as(tmp_path / "packed.dcm")
    np.testing.assert_array_equal(read_scan(tmp_path / "packed.dcm").voxels[0], pixels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1, HTJ2KLossless, RLELossless, JPEG2000Lossless])
def test_a_missing_decoder_is_named(tmp_path, rng, monkeypatch, syntax):
    file = tmp_path / "slice.dcm"
    write_slice(file, rng.integers(0, 9, (8, 8), dtype=np.uint16), CORNER)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([bytes(40)])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)
    with pytest.raises(ScanError, match="its pixels are damaged, cut off"):
        read_scan(file)
    monkeypatch.setattr(pydicom.pixels.decoders.base.DecodeRunner, "__init__", _no_plugin)
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", property(lambda decoder: False))
    with pytest.raises(
        ScanError, match=rf"^slice\.dcm is compressed as {syntax.name.split('(')[0].strip()}.*, and no decoder"
    ):
        read_scan(file)


def _no_plugin(*_, **__):
    raise RuntimeError("Unable to decompress: missing dependencies")


def test_a_video_is_refused_by_its_name(tmp_path, rng):
    file = tmp_path / "slice.dcm"
    write_slice(file, rng.integers(0, 9, (8, 8), dtype=np.uint16), CORNER)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = MPEG2MPML
    data.PixelData = pydicom.encaps.encapsulate([bytes(40)])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)
    with pytest.raises(ScanError, match=r"^slice\.dcm is compressed as MPEG2 .*, which is not supported"):
        read_scan(file)


def test_values_of_the_file_do_not_hide_those_of_a_frame(tmp_path, pixels):
    """It has an image type, an instance number and, at times, a slope, beside those of its frames."""
    frames = [
        frame(
            CORNER + index * GAP * NORMAL,
            MRImageFrameTypeSequence=group(FrameType=["ORIGINAL", "PRIMARY", kind, "NONE"]),
            PixelValueTransformationSequence=group(RescaleSlope=slope, RescaleIntercept=0),
        )
        for kind, slope in (("M", 1), ("P", 2))
        for index in range(5)
    ]
    path = write_enhanced(tmp_path / "whole.dcm", np.concatenate([pixels, pixels]), frames)
    data = pydicom.dcmread(path)
    data.ImageType, data.InstanceNumber, data.RescaleSlope = ["ORIGINAL", "PRIMARY", "M", "NONE"], 7, 5
    data.save_as(path)
    with pytest.raises(SeveralFramesError, match=r"contains 2 frames \(0: type M, 1: type P\)"):
        read_scan(path)
    np.testing.assert_array_equal(read_scan(path, time_index=0).voxels, pixels)
    np.testing.assert_array_equal(read_scan(path, time_index=1).voxels, 2 * pixels)
