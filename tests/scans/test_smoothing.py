"""Means over small neighbourhoods."""

import numpy as np
import pytest

from napari_restore_rwkv.scans.noise.smoothing import box_mean


def test_box_means_are_means_of_squares(rng):
    image = rng.normal(size=(9, 11))
    smooth = box_mean(image, 2)
    assert smooth.shape == image.shape
    assert smooth[4, 5] == pytest.approx(image[2:7, 3:8].mean())
    np.testing.assert_allclose(box_mean(np.full((5, 5), 3.0)), 3.0)
