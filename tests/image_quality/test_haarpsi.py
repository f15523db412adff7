"""HaarPSI against its definition, and its ranking of slices against that of a human reader."""

import math

import numpy as np
import pytest

from napari_restore_rwkv.image_quality.haarpsi import haarpsi
from napari_restore_rwkv.scans.noise.smoothing import box_mean


@pytest.fixture
def slice_(rng):
    """A slice of 0 to 255 with an edge, a ramp and a texture, of odd, unequal sides."""
    rows, columns = np.mgrid[:65, :51]
    image = 80.0 * (columns > 20) + rows + 20 * np.sin(columns / 3) + rng.normal(0, 5, (65, 51))
    return 255 * (image - image.min()) / np.ptp(image)


def by_definition(image, reference):
    """The value, coefficient by coefficient, of slices of 0 to 255."""
    pair = []
    for one in (image, reference):
        height, width = one.shape[0] // 2, one.shape[1] // 2
        halved = [[one[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for x in range(width)] for y in range(height)]
        pair.append(np.array(halved))

    def coefficient(one, scale, y, x, turned):
        side = 2**scale
        window = np.zeros((side, side))
        for i in range(side):
            for j in range(side):
                row, column = y + i - side // 2 + 1, x + j - side // 2 + 1
                if 0 <= row < one.shape[0] and 0 <= column < one.shape[1]:
                    window[i, j] = one[row, column]
        window = window.T if turned else window
        return abs(window[side // 2 :].sum() - window[: side // 2].sum()) / side

    above = below = 0.0
    for y in range(pair[0].shape[0]):
        for x in range(pair[0].shape[1]):
            for turned in (False, True):
                fine = [[coefficient(one, scale, y, x, turned) for one in pair] for scale in (1, 2)]
                alike = np.mean([(2 * a * b + 30) / (a * a + b * b + 30) for a, b in fine])
                weight = max(coefficient(one, 3, y, x, turned) for one in pair)
                above += weight / (1 + math.exp(-4.2 * alike))
                below += weight
    return (math.log(above / below / (1 - above / below)) / 4.2) ** 2


def test_haarpsi_follows_its_definition(slice_, rng):
    image = slice_ + rng.normal(0, 15, slice_.shape)
    assert haarpsi(image, slice_, 255.0) == pytest.approx(by_definition(image, slice_), abs=1e-9)


def test_equal_slices_score_1(slice_):
    assert haarpsi(slice_, slice_, 255.0) == 1.0
    assert haarpsi(slice_ + 1e-9, slice_, 255.0) == pytest.approx(1.0)


def test_more_blur_and_more_noise_score_lower(slice_, rng):
    noise = rng.normal(0, 1, slice_.shape)
    for worse in ([box_mean(slice_, radius) for radius in (1, 2, 4)], [slice_ + s * noise for s in (5, 20, 60)]):
        values = [haarpsi(one, slice_, 255.0) for one in worse]
        assert 1 > values[0] > values[1] > values[2] > 0


def test_the_unit_does_not_matter(slice_, rng):
    image = slice_ + rng.normal(0, 15, slice_.shape)
    assert haarpsi(10 * image - 1000, 10 * slice_ - 1000, 2550.0) == pytest.approx(haarpsi(image, slice_, 255.0))


def test_only_pixels_inside_count(slice_):
    image = slice_.copy()
    image[:20] += 60 * (np.indices((20, 51)).sum(axis=0) % 2)
    image[0::4, 30:] += 1e-6
    inside = np.zeros(slice_.shape, bool)
    inside[40:] = True
    assert haarpsi(image, slice_, 255.0, inside) == pytest.approx(1.0, abs=1e-4)
    assert haarpsi(image, slice_, 255.0, ~inside) < haarpsi(image, slice_, 255.0) < 1


@pytest.mark.parametrize(
    ("image", "reference", "data_range"),
    [
        (np.zeros((15, 40)), np.ones((15, 40)), 1.0),
        (np.zeros((32, 32)), np.ones((32, 32)), 0.0),
        (np.full((32, 32), np.nan), np.eye(32), 1.0),
    ],
)
def test_an_undefined_score_is_nan(image, reference, data_range):
    assert math.isnan(haarpsi(image, reference, data_range))
