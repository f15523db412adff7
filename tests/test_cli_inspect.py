"""``restore-rwkv inspect`` and ``qualify``: what they say, and what they refuse before any work."""

import json

import numpy as np
import pytest

from napari_restore_rwkv.image_quality import methods, mr
from napari_restore_rwkv.scans.files import write_scan
from napari_restore_rwkv.scans.scan import Scan

pytestmark = pytest.mark.slow


@pytest.fixture
def noisy_file(tmp_path, rng):
    voxels = (40 + rng.normal(0, 30, (4, 64, 64))).round().astype(np.int16)
    path = tmp_path / "noisy.nii.gz"
    write_scan(Scan(voxels, (5.0, 0.8, 0.8), modality="CT", unit="HU"), path)
    return path


def test_inspect_describes_a_scan_and_the_proposal(run, noisy_file):
    code, out, _ = run("inspect", noisy_file, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["modality"], found["unit"], found["shape"]) == ("CT", "HU", [4, 64, 64])
    assert found["slice_axis"] == "z"
    assert found["noise"]["sigma"] == pytest.approx(30, rel=0.15)
    assert abs(found["noise"]["slice_correlation"]) < 0.1
    assert found["proposal"]["task"] == "ct-denoise"
    assert found["proposal"]["intensity"]["name"] == "ct-hu"
    assert found["refused"] == []
    code, out, _ = run("inspect", noisy_file)
    assert "slices along z, " in out
    assert "cycles per pixel" in out
    assert "proposed: " in out


def test_inspect_reports_what_would_be_refused(run, tmp_path):
    path = tmp_path / "unknown.nii.gz"
    write_scan(Scan(np.full((3, 8, 40), 7.5, np.float32)), path)
    code, out, _ = run("inspect", path, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["noise"] is None
    assert found["proposal"] == {}
    assert "Noise cannot be measured in slices of 8 x 40 pixels" in found["refused"][0]
    assert "The task must be chosen with --task or --modality" in found["refused"][1]
    assert "refused: " in run("inspect", path)[1]


def test_qualify_writes_its_table_and_a_page_of_figures(run, tmp_path, monkeypatch):
    monkeypatch.setattr(mr, "_QUICK_SLICES", 1)
    monkeypatch.setattr(methods, "_TRIED", (1.0,))
    report = tmp_path / "report.pdf"
    code, out, _ = run("qualify", "--task", "mri-sr", "--classical", "--quick", "--report", report, "--json")
    found = json.loads(out)
    assert "error" not in found, found
    assert code == (1 if any(line["passed"] is False for line in found["lines"]) else 0)
    assert found["judged"] == "classical"
    assert json.loads(report.with_suffix(".json").read_text()) == found
    assert report.read_bytes().startswith(b"%PDF")
    assert report.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--report", "report.txt"), "report.txt is not a .pdf or .png file: give one of the two; both are written."),
        (("--report", "nowhere/report.pdf"), "The folder nowhere does not exist"),
        (("--classical",), "Choose the classical filter to judge with --task."),
        (("--classical", "--task", "all-in-one"), "There are phantoms for CT, MR and PET"),
    ],
)
def test_qualify_refuses_in_a_sentence(run, words, sentence):
    code, out, err = run("qualify", *words)
    assert (code, out) == (1, "")
    assert sentence in err
    assert "Traceback" not in err
