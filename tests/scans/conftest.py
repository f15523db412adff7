"""Shared by the tests of scans."""

import numpy as np
import pytest


@pytest.fixture
def voxels(rng):
    return rng.integers(-1000, 2000, (6, 20, 30), dtype=np.int16)
