import numpy as np
import pytest

from napari_restore_rwkv.simulate.activity import (
    ORGAN_SUV,
    attenuation,
    brain_activity,
    organ_activity,
    textured,
    tissue_activity,
    with_lesions,
)


def drawn(function, *arguments, count=200):
    return np.stack([function(*arguments, np.random.default_rng(i)) for i in range(count)])


def test_organ_uptake_follows_the_table_and_varies_between_patients():
    labels, hu = np.array([[5, 21, 0]]), np.array([[40, 10, -1000]])
    values = drawn(organ_activity, labels, hu)
    np.testing.assert_allclose(np.median(values, axis=0)[0], [2.3, 12.0, 0.0], rtol=0.1)
    assert values[:, 0, 0].std() > 0.2


def test_every_label_of_the_organ_map_has_an_uptake():
    labels = np.arange(1, 118)[None]
    assert sorted(n for first, last in ORGAN_SUV for n in range(first, last + 1)) == list(labels[0])
    assert (organ_activity(labels, np.zeros_like(labels), np.random.default_rng(1)) > 0).all()


def test_tissues_are_distinguished_by_hu():
    air, lung, fat, soft, bone = np.median(drawn(tissue_activity, np.array([-1000, -800, -100, 40, 500])), axis=0)
    assert air == 0
    assert fat < lung < soft < bone


def test_grey_matter_takes_up_more_than_white_and_a_mixture_lies_between():
    grey, white, both = np.median(drawn(brain_activity, np.array([1, 0, 0.5]), np.array([0, 1, 0.5])), axis=0)
    assert white < both < grey


def test_texture_keeps_what_is_dark_dark_and_the_mean(rng):
    activity = np.pad(np.full((60, 60), 2.0), 10)
    result = textured(activity, 3.0, rng)
    assert not result[activity == 0].any()
    assert result[activity > 0].mean() == pytest.approx(2, rel=0.1)
    assert 0.1 < result[activity > 0].std() < 0.6


def test_lesions_are_hot_inside_the_map_that_is_returned_and_nowhere_else():
    activity = np.full((64, 64), 1.0, np.float32)
    for seed in range(10):
        hot, lesions = with_lesions(activity, 3.0, np.random.default_rng(seed), most=3)
        assert lesions.max() <= 3
        assert (hot[lesions > 0] >= 4).all()
        assert (hot[lesions == 0] == 1).all()


def test_where_there_is_no_body_there_are_no_lesions(rng):
    hot, lesions = with_lesions(np.zeros((9, 9), np.float32), 3.0, rng)
    assert not hot.any()
    assert not lesions.any()


def test_water_and_air_attenuate_as_they_do_at_511_kev():
    np.testing.assert_allclose(attenuation(np.array([0, -1000, 1000])), [0.0096, 0, 0.0144], rtol=1e-6)
