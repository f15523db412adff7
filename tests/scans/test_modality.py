"""How the modality of a scan is known: by its header, by its values, or because it was given."""

import numpy as np
import pytest
from handmade import nifti, save

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan


@pytest.mark.parametrize(
    ("description", "modality", "unit"),
    [
        (b"modality PET, unit SUV", "PET", "SUV"),
        (b"CT thorax", "CT", "HU"),
        (b"TE=2.9;Time=101500.1", "MR", ""),
        (b"FSL5.0", None, ""),
        (b"CTX thickness", None, ""),
    ],
)
def test_the_description_of_a_nifti_tells_the_modality(tmp_path, description, modality, unit):
    (tmp_path / "scan.nii").write_bytes(nifti(np.ones((2, 3, 4), np.int16), description=description))
    scan = read_scan(tmp_path / "scan.nii")
    assert (scan.modality, scan.unit) == (modality, unit)
    if modality:
        assert scan.metadata["modality_reason"] == f"the file says modality {modality}"


def test_the_modality_of_a_metaimage_is_read(tmp_path, voxels):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\nModality = MET_MOD_MR\nDimSize = 30 20 6\n"
    (tmp_path / "scan.mha").write_bytes(
        (head + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n").encode() + voxels.tobytes()
    )
    assert read_scan(tmp_path / "scan.mha").modality == "MR"


def test_values_that_look_like_hu_are_assumed_to_be_ct(tmp_path, voxels):
    scan = read_scan(save(tmp_path / "scan.nii.gz", np.clip(voxels, -1000, None)))
    assert (scan.modality, scan.unit) == ("CT", "HU")
    reach = f"from {voxels.min()} to {voxels.max()}"
    assert scan.metadata["modality_reason"] == f"the values reach {reach}, as in HU"


@pytest.mark.parametrize(
    "values",
    [
        np.arange(0, 4000),
        np.arange(-4096, 4096),
        np.linspace(-900.5, 900.3, 999),
        np.full(10, np.nan),
        np.full(10, -1000),
    ],
    ids=["positive", "phase", "not whole", "nan", "air only"],
)
def test_other_values_leave_the_modality_open(tmp_path, values):
    kind = np.int16 if values.dtype.kind == "i" else np.float32
    scan = read_scan(save(tmp_path / "scan.nrrd", values.reshape(1, 1, -1).astype(kind)))
    assert (scan.modality, scan.unit) == (None, "")
    assert scan.metadata["modality_reason"].startswith("the file does not say")


@pytest.mark.parametrize(("modality", "unit"), [("CT", "HU"), ("MR", ""), ("PET", "")])
def test_a_given_modality_wins(tmp_path, voxels, modality, unit):
    scan = read_scan(save(tmp_path / "scan.mha", abs(voxels)), modality=modality)
    assert (scan.modality, scan.unit) == (modality, unit)
    assert scan.metadata["modality_reason"] == f"{modality} was given"


def test_an_unknown_modality_lists_the_known_ones(tmp_path, voxels):
    with pytest.raises(ScanError, match='no modality "US"; choose one of CT, MR, PET'):
        read_scan(save(tmp_path / "scan.mha", voxels), modality="US")
