"""PET activity and counts to SUV: dose, decay, times and time zones, and the factors of scanners."""

import numpy as np
import pydicom
import pytest
from dicoms import CORNER, GAP, NORMAL, pet_tags, write_series, write_slice

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.frames import opening_all

HALF_LIFE_S = 6586.2
# One hour after 400 MBq were given to 80 kg.
FACTOR = 80_000 / (400e6 * 2 ** (-3600 / HALF_LIFE_S))


def test_pet_in_bq_per_ml_becomes_suv(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels, **pet_tags()))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * FACTOR, rtol=1e-6)
    assert (scan.modality, scan.unit, scan.voxels.dtype) == ("PET", "SUV", np.float32)
    assert "turned into SUV" in scan.metadata["modality_reason"]
    assert "80" not in scan.metadata["modality_reason"]


@pytest.mark.parametrize(
    ("when", "zone"),
    [
        ("202401021000", None),
        ("20240102100000.25", None),
        ("20240102100000+0100", None),
        ("20240102080000+0000", "+0200"),
        ("2024010210", "+0200"),
    ],
)
def test_the_injection_may_be_written_without_seconds_or_in_another_time_zone(tmp_path, pixels, when, zone):
    tags = pet_tags()
    tags["RadiopharmaceuticalInformationSequence"][0].RadiopharmaceuticalStartDateTime = when
    scan = read_scan(
        write_series(tmp_path / "series", pixels, **tags, **({"TimezoneOffsetFromUTC": zone} if zone else {}))
    )
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * FACTOR, rtol=1e-4)


def _drug(tags, **changes):
    for name, value in changes.items():
        setattr(tags["RadiopharmaceuticalInformationSequence"][0], name, value)
    return tags


def test_a_dynamic_scan_may_start_before_the_injection(tmp_path, pixels):
    tags = pet_tags(SeriesTime="095940", AcquisitionTime="095940")
    scan = read_scan(write_series(tmp_path / "series", pixels, **tags))
    factor = 80_000 / (400e6 * 2 ** (20 / HALF_LIFE_S))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * factor, rtol=1e-6)


def test_fractions_of_a_second_count(tmp_path, pixels):
    """An injection in the same second, of a nuclide that lives as long."""
    tags = _drug(pet_tags(SeriesTime="100000.75", AcquisitionTime="100000.75"), RadionuclideHalfLife=0.5)
    _drug(tags, RadiopharmaceuticalStartTime="100000.25")
    scan = read_scan(write_series(tmp_path / "series", pixels, **tags))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * 2 * 80_000 / 400e6, rtol=1e-6)


def test_a_nuclide_that_lives_long_is_scanned_days_later(tmp_path, pixels):
    tags = _drug(pet_tags(), RadiopharmaceuticalStartDateTime="20231229110000", RadionuclideHalfLife=282276)
    scan = read_scan(write_series(tmp_path / "series", pixels, **tags))
    factor = 80_000 / (400e6 * 2 ** (-4 * 86400 / 282276))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (
            pet_tags(DecayCorrection="NONE"),
            "they are not corrected for decay to the start of the scan or to the injection",
        ),
        (_drug(pet_tags(), RadionuclideHalfLife=0), "its half-life, or the time between injection and scan, makes no"),
        (
            pet_tags(SeriesTime="090000", AcquisitionTime="090000"),
            "the time between injection and scan, makes no sense",
        ),
        (_drug(pet_tags(), RadionuclideHalfLife=None), "weight, dose, half-life or times are missing"),
        (pet_tags(PatientWeight=0), "weight or dose is not above 0"),
    ],
)
def test_why_there_is_no_suv_is_told(tmp_path, pixels, tags, why):
    scan = read_scan(write_series(tmp_path / "series", pixels, **tags))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5)
    assert scan.unit == "Bq/ml"
    assert why in scan.metadata["modality_reason"]


def test_slices_in_different_units_are_refused(tmp_path, pixels):
    folder = write_series(tmp_path / "series", pixels[:4], names="abcd", **pet_tags())
    write_slice(folder / "e.dcm", pixels[4], CORNER + 4 * GAP * NORMAL, **pet_tags(Units="CNTS"))
    with pytest.raises(ScanError, match=r"values in different units \(BQML, CNTS\)"):
        read_scan(folder)


def test_the_day_alone_does_not_say_when_the_injection_was(tmp_path, pixels):
    tags = pet_tags()
    tags["RadiopharmaceuticalInformationSequence"][0].RadiopharmaceuticalStartDateTime = "20240102"
    assert read_scan(write_series(tmp_path / "series", pixels, **tags)).unit == "Bq/ml"


def test_every_frame_of_a_dynamic_pet_decays_from_the_first(tmp_path, pixels):
    for index, hour in enumerate((11, 12)):
        tags = pet_tags(SeriesTime="150000", AcquisitionTime=f"{hour}0000", TemporalPositionIdentifier=index + 1)
        write_series(tmp_path / "series", pixels, names=[f"{index}{letter}" for letter in "abcde"], **tags)
    for index in (0, 1):
        scan = read_scan(tmp_path / "series", time_index=index)
        np.testing.assert_allclose(scan.voxels, pixels * 2.5 * FACTOR, rtol=1e-6)
    for scan in finish(opening_all(tmp_path / "series"))[0].scans:
        np.testing.assert_allclose(scan.voxels, pixels * 2.5 * FACTOR, rtol=1e-6)


def test_a_dose_corrected_to_the_injection_does_not_decay_again(tmp_path, pixels):
    scan = read_scan(write_series(tmp_path / "series", pixels, **pet_tags(DecayCorrection="ADMIN")))
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * 80_000 / 400e6, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientWeight": 0},
        {"DecayCorrection": "NONE"},
        {"RadiopharmaceuticalInformationSequence": []},
        {"SeriesTime": "090000", "AcquisitionTime": "090000"},
        {"SeriesDate": ""},
    ],
)
def test_pet_whose_dose_is_unknown_stays_in_bq_per_ml(tmp_path, pixels, changes):
    scan = read_scan(write_series(tmp_path / "series", pixels, **pet_tags(**changes)))
    assert (scan.modality, scan.unit) == ("PET", "Bq/ml")
    np.testing.assert_allclose(scan.voxels, pixels * 2.5)
    assert "its values stay in Bq/ml, because" in scan.metadata["modality_reason"]


@pytest.mark.parametrize(("units", "unit"), [("GML", "SUV"), ("CNTS", "")])
def test_pet_in_other_units_is_left_as_it_is(tmp_path, pixels, units, unit):
    scan = read_scan(write_series(tmp_path / "series", pixels, **pet_tags(Units=units)))
    assert scan.unit == unit
    np.testing.assert_allclose(scan.voxels, pixels * 2.5)


@pytest.mark.parametrize(
    ("factors", "unit", "factor"),
    [
        ({0x70531000: "0.002"}, "SUV", 0.002),
        ({0x70531000: "0", 0x70531009: "1.5"}, "SUV", 1.5 * FACTOR),
        ({0x70531009: "nan"}, "", 1.0),
        ({0x70531000: "zzz"}, "", 1.0),
    ],
)
def test_philips_counts_become_suv_where_the_factor_is_there(tmp_path, pixels, factors, unit, factor):
    folder = write_series(tmp_path / "series", pixels, **pet_tags(Units="CNTS"))
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        data.add_new(0x70530010, "LO", "Philips PET Private Group")
        for tag, value in factors.items():
            data.add_new(tag, "UN", value.encode())
        data.save_as(file)
    scan = read_scan(folder)
    assert scan.unit == unit
    np.testing.assert_allclose(scan.voxels, pixels * 2.5 * factor, rtol=1e-6)
