"""The models that the panel offers for each task, and their order."""

import pytest

from napari_restore_rwkv.gui.surroundings import look_around


@pytest.fixture(scope="module")
def models():
    return look_around().models


def test_weights_come_before_the_filter_if_they_meet_their_requirements(models):
    weights, classical = models["ct-denoise"]
    assert (weights.weights, weights.learned) == ("ct-denoise", True)
    assert (classical.weights, classical.title, classical.learned) == ("classical:ct-denoise", "non-local means", False)
    assert "Experimental" not in weights.card


def test_the_filter_comes_first_where_weights_fall_short(models):
    classical, weights = models["mri-sr"]
    assert (classical.learned, weights.learned) == (False, True)
    assert weights.title.startswith("light, experimental, 20")
    assert "Experimental, because on a subject never trained on the mean gain in dB at x2" in weights.card


def test_simulated_pet_is_called_experimental_and_still_proposed(models):
    assert models["pet-low-count"][0].title.startswith("light, experimental")
    assert models["pet-low-count"][0].weights == "pet-low-count"
