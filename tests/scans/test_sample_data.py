"""The sample scans: where they are found, that they are what their README says, and that they name nobody."""

import hashlib
import re

import numpy as np
import pydicom
import pytest

import napari_restore_rwkv
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import position_mm, same_geometry

IDENTIFYING = (
    "AccessionNumber AcquisitionDate ContentDate DeviceSerialNumber InstitutionAddress InstitutionName "
    "IssuerOfPatientID OperatorsName OtherPatientIDs PatientAddress PatientAge PatientBirthDate PatientID "
    "PatientName PatientSex PatientWeight ReferringPhysicianName RequestingPhysician SeriesDate StationName "
    "StudyDate StudyID"
)

PAIRS = [
    ("ct_abdomen_quarter_dose.nii.gz", "ct_abdomen_dicom"),
    ("mr_t1_half_resolution.nii.gz", "mr_t1_full_resolution.nii.gz"),
    ("pet_low_count.nii.gz", "pet_full_count.nii.gz"),
]
SAMPLES = ["mr_t1_mni152.nii.gz", *(name for pair in PAIRS for name in pair)]
LARGEST_BYTES = 6_000_000


def sha256_of(path):
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_has_the_digest_in_its_readme(name):
    readme = sample_path("README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{re.escape(name)}/?` .*$", readme, re.MULTILINE)
    assert sha256_of(sample_path(name)) in row


@pytest.mark.parametrize(("worse", "good"), PAIRS)
def test_every_degraded_sample_has_its_reference_on_the_same_grid(worse, good):
    one, other = read_scan(sample_path(worse)), read_scan(sample_path(good))
    assert one.shape == other.shape
    assert same_geometry(one, other)
    assert not np.array_equal(one.voxels, other.voxels)
    assert sample_path(worse).stat().st_size < LARGEST_BYTES


def test_the_slices_of_the_template_keep_their_positions():
    part, whole = (read_scan(sample_path(f"mr_t1_{name}.nii.gz")) for name in ("full_resolution", "mni152"))
    np.testing.assert_allclose(position_mm(part, (0, 0, 0)), position_mm(whole, (78, 0, 0)), atol=1e-3)
    assert np.array_equal(part.voxels, whole.voxels[78:102])


def test_sample_ct_is_a_scan_in_hu():
    scan = read_scan(sample_path("ct_abdomen_dicom"))
    assert (scan.shape, scan.modality, scan.unit) == ((20, 512, 512), "CT", "HU")
    assert scan.voxels.dtype == np.int16
    np.testing.assert_allclose(scan.spacing_mm, (2.0, 0.9765625, 0.9765625))
    np.testing.assert_allclose(scan.origin_mm, (-249.51171875, -437.51171875, -804.5))
    assert (scan.voxels.min(), scan.voxels.max()) == (-1024, 1839)


def test_sample_ct_names_nobody():
    for path in sample_path("ct_abdomen_dicom").iterdir():
        slice_ = pydicom.dcmread(path, stop_before_pixels=True)
        assert [tag for tag in IDENTIFYING.split() if slice_.get(tag)] == []
        assert [element.tag for element in slice_ if element.tag.is_private or element.VR == "SQ"] == []


def test_sample_is_found_inside_an_installed_package(tmp_path, monkeypatch):
    sample = tmp_path / "sample_data" / "scan.nii.gz"
    sample.parent.mkdir()
    sample.touch()
    monkeypatch.setattr(napari_restore_rwkv, "__path__", [str(tmp_path / "elsewhere"), str(tmp_path)])
    assert sample_path("scan.nii.gz") == sample


@pytest.mark.parametrize("name", ["no_such_scan.nii", ""])
def test_a_missing_sample_is_named_with_the_existing_ones(name):
    with pytest.raises(ScanError, match=rf'no sample scan "{name}"; choose one of .*ct_abdomen_dicom'):
        sample_path(name)


def test_missing_sample_data_asks_for_a_new_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(napari_restore_rwkv, "__path__", [str(tmp_path / "package")])
    with pytest.raises(ScanError, match="sample_data folder is missing: install the package again"):
        sample_path("mr_t1_mni152.nii.gz")
