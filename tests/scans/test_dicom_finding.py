"""The files below a folder that are slices of one scan; omitted files and duplicates are reported."""

import os
import shutil
import sys
import zlib

import numpy as np
import pydicom
import pytest
from dicoms import CORNER, GAP, NORMAL, write_series, write_slice
from mosaics import write_mosaic
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRSpectroscopyStorage,
)

from napari_restore_rwkv.commands.scans_below import scans_below
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.dicom import image, reading, series
from napari_restore_rwkv.scans.dicom.errors import SeveralSeriesError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import same_geometry


@pytest.fixture
def folder(tmp_path, pixels):
    return write_series(tmp_path / "series", pixels, FrameOfReferenceUID="1.2.9", RescaleType="HU")


def without_preamble(path, implicit, meta=False):
    data = pydicom.dcmread(path)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    if meta:
        # The group of the file itself is there, and only preamble and mark are not.
        path.write_bytes(path.read_bytes()[132:])
        return
    bare = pydicom.Dataset(data)
    with path.open("wb") as stream:
        pydicom.dcmwrite(stream, bare, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)


@pytest.mark.parametrize(("implicit", "meta"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("names", ["a", "abcde"])
def test_files_without_a_preamble_are_slices(folder, pixels, implicit, meta, names):
    for name in names:
        without_preamble(folder / f"{name}.dcm", implicit, meta)
        assert (folder / f"{name}.dcm").read_bytes()[128:132] != b"DICM"
    scan = read_scan(folder)
    np.testing.assert_array_equal(scan.voxels, pixels.astype(int) - 1024)
    assert "notes" not in scan.metadata


@pytest.mark.parametrize(("module", "step"), [(image, "header_of"), (series, "_pixel_digest"), (reading, "pixels_of")])
def test_a_slice_that_vanishes_while_it_is_read_is_not_called_damaged(folder, monkeypatch, module, step):
    original = getattr(module, step)
    shutil.copy(folder / "a.dcm", folder / "again.dcm")

    def vanishing(slice_or_path, *more):
        getattr(slice_or_path, "path", slice_or_path).unlink()
        return original(slice_or_path, *more)

    monkeypatch.setattr(module, step, vanishing)
    with pytest.raises(ScanError, match=r"\.dcm cannot be read: it is no longer there; put it back"):
        read_scan(folder)


def test_files_that_are_not_slices_are_named(folder):
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.dcm").touch()
    report = pydicom.dcmread(folder / "a.dcm")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.save_as(folder / "report.dcm")
    write_slice(folder / "screenshot.dcm", np.zeros((6, 8), np.uint16), CORNER, ImagePositionPatient=None)
    [note] = read_scan(folder).metadata["notes"]
    assert note == (
        "Left out, because they are not slices of a scan: empty.dcm, notes.txt, report.dcm, screenshot.dcm."
    )


@pytest.mark.parametrize(
    ("copied", "words"), [("abcde", "5 of its images are duplicates"), ("c", "1 of its images is")]
)
def test_duplicates_count_once_and_are_reported(folder, pixels, copied, words):
    original = read_scan(folder)
    for name in copied:
        shutil.copy(folder / f"{name}.dcm", folder / f"copy of {name}.dcm")
    scan = read_scan(folder)
    np.testing.assert_array_equal(scan.voxels, original.voxels)
    assert scan.metadata["notes"][0].startswith(words)


def test_other_pixels_under_the_same_uid_are_not_a_duplicate(folder, pixels):
    data = pydicom.dcmread(folder / "c.dcm")
    data.PixelData = (pixels[2] + 1).tobytes()
    data.save_as(folder / "changed.dcm")
    with pytest.raises(ScanError, match="several images at some positions but not at all of them"):
        read_scan(folder)


def test_slices_without_unique_uids_are_all_kept(tmp_path, pixels):
    """Some anonymisation tools give all images the same UID."""
    assert read_scan(write_series(tmp_path / "series", pixels, SOPInstanceUID="1.2.3")).shape == (5, 6, 8)


@pytest.mark.parametrize("decimals", [1, 2])
def test_positions_with_few_digits_are_read_with_a_notice(tmp_path, rng, decimals):
    for index in range(40):
        corner = np.round([0, 0, -120 + index * 0.625], decimals)
        write_slice(
            tmp_path / f"{index}.dcm",
            rng.integers(0, 9, (4, 4), dtype=np.uint16),
            corner,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    scan = read_scan(tmp_path)
    assert scan.spacing_mm[0] == pytest.approx(0.625, abs=10.0**-decimals / 39)
    notes = scan.metadata.get("notes", [])
    assert [note.split(";")[0] for note in notes] == (
        ["The positions of its slices are rounded to 0.1 mm"] if decimals == 1 else []
    )


def test_a_missing_slice_is_found_among_rounded_positions(tmp_path, rng):
    for index in [*range(10), *range(11, 40)]:
        write_slice(
            tmp_path / f"{index:02}.dcm",
            rng.integers(0, 9, (4, 4), dtype=np.uint16),
            np.round([0, 0, index * 0.625], 1),
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )
    with pytest.raises(ScanError, match=r"missing between 09\.dcm and 11\.dcm|unevenly spaced, .* 09\.dcm and 11\.dcm"):
        read_scan(tmp_path)


def test_slices_are_found_at_any_depth(tmp_path, pixels):
    inner = tmp_path / "patient" / "series"
    inner.mkdir(parents=True)
    write_series(inner, pixels)
    assert read_scan(tmp_path / "patient").shape == (5, 6, 8)


def test_the_directory_of_a_disk_leads_to_its_images(tmp_path, pixels):
    from pydicom.fileset import FileSet

    folder = write_series(tmp_path / "series", pixels, StudyInstanceUID="1.2.9", StudyDate="20240101", StudyTime="1200")
    disk = FileSet()
    for number, file in enumerate(sorted(folder.iterdir()), 1):
        data = pydicom.dcmread(file)
        data.InstanceNumber, data.SeriesNumber, data.StudyID, data.AccessionNumber = number, 1, "1", ""
        disk.add(data)
    disk.write(tmp_path / "disk")
    for path in (tmp_path / "disk", tmp_path / "disk" / "DICOMDIR"):
        scan = read_scan(path)
        assert same_geometry(scan, read_scan(folder))
        assert "notes" not in scan.metadata
    *_, last = sorted(file for file in (tmp_path / "disk").rglob("*") if file.is_file() and file.name != "DICOMDIR")
    last.unlink()
    for path in (tmp_path / "disk", tmp_path / "disk" / "DICOMDIR"):
        [note] = read_scan(path).metadata["notes"]
        listed = last.relative_to(tmp_path / "disk").as_posix()
        assert note == f"Missing, although the DICOMDIR lists them: {listed}."


def test_links_to_other_folders_are_named(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    scan = read_scan(folder)
    assert scan.metadata["notes"] == ["Not looked into, because they are links to other folders: more."]


def test_several_frames_without_positions_are_not_slices(folder, pixels):
    """Ultrasound or a secondary capture beside a CT."""
    nowhere = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    write_slice(folder / "z.dcm", pixels[0], CORNER, SeriesInstanceUID="1.2.9", NumberOfFrames=2, Rows=3, **nowhere)
    for series_uid in (None, "1.2.3.4"):
        scan = read_scan(folder, series=series_uid)
        assert scan.shape == (5, 6, 8)
        assert scan.metadata["notes"] == ["Left out, because it is not a slice of a scan: z.dcm."]


def test_spectra_are_no_images(folder, pixels):
    write_slice(
        folder / "z.dcm",
        pixels[0],
        CORNER,
        SeriesInstanceUID="1.2.9",
        SOPClassUID=MRSpectroscopyStorage,
        PixelData=None,
    )
    assert read_scan(folder).metadata["notes"] == ["Left out, because it is not a slice of a scan: z.dcm."]


def test_a_copied_file_of_many_images_is_compared_once(tmp_path, rng, monkeypatch):
    read = []
    real = series._pixel_digest
    monkeypatch.setattr(series, "_pixel_digest", lambda path: read.append(path.name) or real(path))
    write_mosaic(tmp_path / "a.dcm", rng.integers(0, 99, (9, 6, 8), dtype=np.uint16), CORNER)
    shutil.copy(tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert read_scan(tmp_path).shape == (9, 6, 8)
    assert sorted(read) == ["a.dcm", "b.dcm"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_file_name_that_is_no_text_is_no_obstacle(run, folder):
    (folder / "c.dcm").rename(folder / os.fsdecode(b"Sch\xe4del.dcm"))
    code, out, err = run("inspect", folder)
    assert (code, err) == (0, "")
    assert "5 x 6 x 8 voxels" in out


@pytest.mark.parametrize("asked", ["\N{SUPERSCRIPT TWO}", "0", "3"])
def test_a_series_that_is_no_number_of_one_is_refused(study, asked):
    with pytest.raises(ScanError, match=f"has no series {asked}; it contains 1: "):
        read_scan(study, series=asked)


@pytest.fixture
def study(tmp_path, pixels):
    study = tmp_path / "study"
    study.mkdir()
    write_series(study / "one", pixels)
    write_series(study / "two", pixels[:3], names="xyz", SeriesInstanceUID="1.2.3.5", SeriesDescription="Liver, late")
    return study


@pytest.mark.parametrize(("series", "slices"), [("1", 5), ("2", 3), ("3.5", 3), ("1.2.3.4", 5)])
def test_one_of_several_series_is_chosen(study, series, slices):
    with pytest.raises(SeveralSeriesError) as caught:
        read_scan(study)
    assert [len(one.images) for one in caught.value.series] == [5, 3]
    assert read_scan(study, series=series).shape[0] == slices


def test_a_missing_series_is_refused_with_the_existing_ones(study):
    with pytest.raises(ScanError, match=r'study has no series 7; it contains 1: "Thorax"'):
        read_scan(study, series="7")


def test_a_batch_takes_every_series_and_names_all_other_files(tmp_path, study, pixels):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write_series(tmp_path / "deep" / "er", pixels)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "letter.txt").write_text("hello")
    found, left_out = scans_below(tmp_path)
    assert [(source.name, source.series) for source in found] == [
        ("deep", None),
        ("study_1_Thorax", "1.2.3.4"),
        ("study_2_Liver-late", "1.2.3.5"),
    ]
    assert left_out == ["papers"]


def test_a_flat_folder_of_several_series_is_a_batch_itself(tmp_path, pixels):
    folder = write_series(tmp_path / "study", pixels)
    write_series(folder, pixels[:3], names="xyz", SeriesInstanceUID="1.2.3.5")
    assert [source.series for source in scans_below(folder)[0]] == ["1.2.3.4", "1.2.3.5"]


def test_a_batch_of_series_is_restored_with_a_notice_about_the_rest(run, study, weights_file, tmp_path):
    (study / "letter.txt").write_text("hello")
    results = tmp_path / "results"
    code, out, err = run("restore", study, results, "--checkpoint", weights_file)
    assert code == 0, err
    assert "left out, because they contain no scan: letter.txt." in err
    assert {file.name for file in results.glob("*.gz")} == {"one.nii.gz", "two.nii.gz"}
    assert "2 of 2 scans are done" in out


def test_one_series_is_restored_by_its_number(run, study, weights_file, tmp_path):
    result = tmp_path / "late.nii.gz"
    code, _, err = run("restore", study, result, "--checkpoint", weights_file, "--series", "2")
    assert code == 0, err
    assert read_scan(result).shape == (3, 6, 8)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"0.7\\0.9 ", b"0.7\\zzz "),
        lambda data: data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"[:20]),
        lambda data: data.replace(b"-1024", b"-1e2e"),
        lambda data: data.replace(b"\x28\0\x02\x01US\x02\0\x0f\0", b"\x28\0\x02\x01LO\x02\0L("),
        lambda data: data.replace(b"\x20\0\x52\0UI", b"\x20\0\x52\0C\0"),
        lambda data: data.replace(b"\x28\0\x54\x10LO", b"\x28\0\x54\x10C\0"),
    ],
)
def test_damaged_values_are_refused_in_a_sentence(folder, damage):
    before = (folder / "c.dcm").read_bytes()
    after = damage(before)
    assert after != before
    (folder / "c.dcm").write_bytes(after)
    with pytest.raises(ScanError, match=r"^c\.dcm "):
        read_scan(folder)


def deflated(path, content):
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    whole = path.read_bytes()
    start = 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    path.write_bytes(whole[:start] + content(whole[start:]))


def test_deflated_slices_are_read(folder, pixels):
    for file in folder.iterdir():
        deflated(file, lambda packed: packed)
    np.testing.assert_array_equal(read_scan(folder).voxels, pixels.astype(int) - 1024)


@pytest.mark.slow
def test_a_deflated_slice_that_does_not_end_is_refused(folder):
    def zeros(_):
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(300)), packer.flush()])

    deflated(folder / "c.dcm", zeros)
    assert (folder / "c.dcm").stat().st_size < 1 << 20
    with pytest.raises(ScanError, match=r"^c\.dcm is a compressed DICOM file that expands beyond 256 MB"):
        read_scan(folder)


def test_a_deflated_slice_that_is_damaged_is_refused(folder):
    deflated(folder / "c.dcm", lambda packed: packed[:40] + b"\xff" * 40 + packed[80:])
    with pytest.raises(ScanError, match=r"^c\.dcm cannot be read: it is damaged"):
        read_scan(folder)


def test_an_image_at_another_position_is_not_a_slice_of_the_stack(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    write_slice(folder / "far.dcm", pixels[0], CORNER + 40 * GAP * NORMAL)
    with pytest.raises(ScanError, match=r"slices are missing between a\.dcm and far\.dcm"):
        read_scan(folder)
