"""Shared by the tests of scans."""

import numpy as np
import pytest
from derived_series import STUDY
from dicoms import write_series


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 2000, (6, 20, 30), dtype=np.int16)


@pytest.fixture
def pixels(rng):
    """Stored values of a small DICOM series."""
    return rng.integers(0, 3000, (5, 6, 8), dtype=np.uint16)


@pytest.fixture
def series(tmp_path, pixels):
    """The folder of a DICOM series to derive others from."""
    return write_series(tmp_path / "series", pixels, **STUDY)


@pytest.fixture
def folder(tmp_path):
    """Where a derived series is written."""
    return tmp_path / "restored"
