"""The report on a restoration: as a value, as files, and from the command line."""

import errno
import json
import os

import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.reliability.report import report_on
from napari_restore_rwkv.scans.files import write_scan
from napari_restore_rwkv.scans.scan import Scan

ERASED = 2


@pytest.fixture
def scans(rng):
    """Noisy, restored and clean: all noise is gone, and in one slice a spot with it."""
    clean = np.where(np.hypot(*np.ogrid[-60:60, -60:60]) < 55, 40, -1000)[None].repeat(4, axis=0).astype(np.float32)
    true = clean.copy()
    true[ERASED, 50:54, 60:64] += 120
    noisy = true + rng.normal(0, 20, true.shape).astype(np.float32)
    spacing = (3.0, 0.8, 0.8)
    return tuple(Scan(voxels, spacing, modality="CT", unit="HU") for voxels in (noisy, clean, true))


def test_it_finds_the_slice_where_a_structure_was_erased(scans):
    report = finish(report_on(*scans))
    [one] = report.suspicious()
    assert one.index == ERASED
    row, column, z = one.removed.places[0]
    assert abs(row - 51.5) < 3
    assert abs(column - 61.5) < 3
    assert z > 0
    assert report.summary()["verdicts"] == {"noise": 3, "doubtful": 0, "structure": 1}


def test_noise_and_figures_are_those_of_the_slices(scans):
    summary = finish(report_on(*scans)).summary()
    assert summary["noise_before"] == pytest.approx(20, rel=0.15)
    assert summary["noise_after"] < 1
    assert summary["psnr_after"] > summary["psnr_before"] + 10
    assert summary["haarpsi_before"] < 0.9 < summary["haarpsi_after"]
    assert "psnr_after" not in finish(report_on(*scans[:2])).summary()


def test_scans_on_other_grids_are_refused(scans):
    noisy, restored, _ = scans
    moved = restored.with_voxels(restored.voxels, origin_mm=(5.0, 0.0, 0.0))
    with pytest.raises(ScanError, match="The restored scan is not on the grid of the input"):
        finish(report_on(noisy, moved))
    with pytest.raises(ScanError, match="at least 64 x 64 pixels"):
        finish(report_on(*(scan.with_voxels(scan.voxels[:, :60, :60]) for scan in (noisy, restored))))


@pytest.fixture
def files(scans, tmp_path):
    paths = [tmp_path / f"{name}.nii.gz" for name in ("noisy", "restored", "reference")]
    for scan, path in zip(scans, paths, strict=True):
        write_scan(scan, path)
    return paths


@pytest.mark.slow
def test_the_command_writes_a_page_and_figures(run, files, tmp_path):
    pictures = [tmp_path / "page.png", tmp_path / "page.pdf", tmp_path / "page.json"]
    noisy, restored, reference = files
    code, out, err = run("report", noisy, restored, "--reference", reference, "--modality", "CT", "--output", *pictures)
    assert code == 0, err
    assert f"slice {ERASED}: Structure was removed in 1 place" in out
    assert "dB" in out
    assert pictures[0].read_bytes().startswith(b"\x89PNG")
    assert pictures[1].read_bytes().startswith(b"%PDF")
    assert json.loads(pictures[2].read_text())["suspicious"] == [ERASED]


def test_the_same_scan_twice_is_called_unchanged(run, files):
    noisy = files[0]
    assert "Nothing was removed." in run("report", noisy, noisy)[1]


def test_a_page_that_exists_or_of_another_kind_is_refused(run, files, tmp_path):
    noisy, restored, _ = files
    (tmp_path / "page.png").write_bytes(b"mine")
    for name, words in (("page.png", "already exists"), ("page.docx", "a report is written as .png, .pdf, .json")):
        code, _, err = run("report", noisy, restored, "--modality", "CT", "--output", tmp_path / name)
        assert code == 1
        assert words in err
    assert (tmp_path / "page.png").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_page_shows_the_name_of_a_scan_and_heeds_no_settings_beside_it(run, files, tmp_path, monkeypatch):
    noisy, restored, _ = files
    named = noisy.rename(tmp_path / r"a$\frac$<script>=cmd.nii.gz")
    monkeypatch.chdir(tmp_path)
    words = ["report", named, restored, "--modality", "CT", "--output"]
    # Matplotlib reads a file of this name in the working folder with its import, so as if that had happened.
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "font.size": 77}):
        assert run(*words, "one.png")[0] == 0
        assert matplotlib.rcParams["font.size"] == 77
    assert run(*words, "other.png")[0] == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["page.png", "page.json"])
def test_a_report_that_does_not_fit_on_the_disk_leaves_the_old_one(run, files, tmp_path, monkeypatch, name):
    noisy, restored, _ = files
    (tmp_path / name).write_bytes(b"mine")
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    code, _, err = run("report", noisy, restored, "--modality", "CT", "--overwrite", "--output", tmp_path / name)
    assert code == 1
    assert "cannot be written (no space is left on the disk): free some space or choose another folder" in err
    assert (tmp_path / name).read_bytes() == b"mine"
    assert set(tmp_path.iterdir()) == before
