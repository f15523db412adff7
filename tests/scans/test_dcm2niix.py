"""What dcm2niix, an independent reader of DICOM, makes of the same files: every value, and every voxel's place."""

import shutil
import subprocess

import nibabel
import numpy as np
import pytest
from dicoms import CORNER, GAP, NORMAL, write_series, write_slice
from mosaics import write_mosaic
from test_dicom_enhanced import frame, group, write_enhanced

from napari_restore_rwkv.scans.files import read_scan

DCM2NIIX = shutil.which("dcm2niix")
pytestmark = pytest.mark.skipif(DCM2NIIX is None, reason="dcm2niix is not installed (apt-get install dcm2niix)")


def converted(source, place):
    """Return what dcm2niix makes of a folder, by the name of the file."""
    place.mkdir()
    command = [DCM2NIIX, "-z", "n", "-b", "n", "-f", "it", "-o", str(place), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {path.stem: nibabel.load(path) for path in place.glob("*.nii")}
    assert found, done.stdout + done.stderr
    return found


def as_nifti(scan):
    """Return a scan with its place in the frame of NIfTI, where x and y point the other way."""
    affine = np.eye(4)
    affine[:3, :3] = scan.direction * scan.spacing_mm[::-1]
    affine[:3, 3] = scan.origin_mm
    return nibabel.Nifti1Image(np.asarray(scan.voxels, np.float32).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def assert_same(scan, theirs, atol=1e-4):
    ours, theirs = (nibabel.as_closest_canonical(image) for image in (as_nifti(scan), theirs))
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_series_of_slices(tmp_path, pixels, modality):
    folder = tmp_path / "series"
    folder.mkdir()
    # Without numbers dcm2niix goes by the UIDs, and leaves a slice out now and then.
    for index, slice_ in enumerate(pixels):
        place = CORNER + index * GAP * NORMAL
        write_slice(folder / f"{len(pixels) - index}.dcm", slice_, place, Modality=modality, InstanceNumber=index + 1)
    [theirs] = converted(folder, tmp_path / "nifti").values()
    assert_same(read_scan(folder), theirs)


def test_a_pet_series_whose_slices_have_different_slopes(tmp_path, pixels):
    folder = tmp_path / "series"
    folder.mkdir()
    for index, slice_ in enumerate(pixels):
        tags = {"Modality": "PT", "RescaleSlope": 1.5 + index, "RescaleIntercept": 0, "InstanceNumber": index + 1}
        write_slice(folder / f"{index}.dcm", slice_, CORNER + index * GAP * NORMAL, **tags)
    [theirs] = converted(folder, tmp_path / "nifti").values()
    assert_same(read_scan(folder), theirs)


@pytest.mark.parametrize("count", [1, 4, 5, 10])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_mosaic(tmp_path, rng, count, sign):
    pixels = rng.integers(0, 3000, (count, 6, 8), dtype=np.uint16)
    folder = tmp_path / "run"
    folder.mkdir()
    write_mosaic(folder / "a.dcm", pixels, CORNER, sign=sign)
    [theirs] = converted(folder, tmp_path / "nifti").values()
    assert_same(read_scan(folder), theirs)


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_an_enhanced_file(tmp_path, pixels, modality):
    """Frames out of order. Of slopes that differ from frame to frame it takes one for all, so they are alike here."""
    order = [3, 0, 4, 1, 2]
    frames = [
        frame(
            CORNER + index * GAP * NORMAL,
            PixelValueTransformationSequence=group(
                RescaleSlope=1.0 if modality == "CT" else 2.5, RescaleIntercept=-1024.0 * (modality == "CT")
            ),
            FrameContentSequence=group(
                DimensionIndexValues=[1, index + 1], InStackPositionNumber=index + 1, StackID="1"
            ),
        )
        for index in order
    ]
    folder = tmp_path / "enhanced"
    folder.mkdir()
    write_enhanced(folder / "a.dcm", pixels[order], frames, modality)
    [theirs] = converted(folder, tmp_path / "nifti").values()
    scan = read_scan(folder)
    assert_same(scan, theirs)


def test_a_tilted_gantry(tmp_path, rng):
    """Its correction keeps the first slice where it is, as ours, if the gantry is tilted this way."""
    pixels = rng.integers(0, 3000, (5, 40, 12), dtype=np.uint16)
    sine, cosine = np.sin(np.radians(-20)), np.cos(np.radians(-20))
    folder = tmp_path / "tilted"
    folder.mkdir()
    # It corrects signed numbers only.
    known = {"PixelRepresentation": 1, "Manufacturer": "SIEMENS", "GantryDetectorTilt": -20, "SliceThickness": 2.5}
    for index, slice_ in enumerate(pixels):
        tags = {"ImageOrientationPatient": [1, 0, 0, 0, cosine, sine], "InstanceNumber": index + 1, **known}
        write_slice(folder / f"{index}.dcm", slice_, np.array([-5.0, -10.0, 100.0 + 2.5 * index]), **tags)
    found = converted(folder, tmp_path / "nifti")
    [theirs] = [image for name, image in found.items() if "Tilt" in name]
    ours, theirs = (
        nibabel.as_closest_canonical(one) for one in (as_nifti(read_scan(folder, correct_tilt=True)), theirs)
    )
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    ours, theirs = ours.get_fdata(), theirs.get_fdata()
    # Both round to whole numbers, and it gives values to the row at one end of a slice that is in it in part only.
    differ = np.abs(ours - theirs) > 1
    assert differ.any(axis=0).sum() <= 4
    assert (ours[differ] == ours.min()).all()


def test_straight_slices_are_unchanged(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels)
    one, other = read_scan(folder), read_scan(folder, correct_tilt=True)
    np.testing.assert_array_equal(one.voxels, other.voxels, strict=True)
    assert one.metadata == other.metadata
