"""Pairs and weights for tests of fine-tuning."""

import pytest
import torch
from phantom import QUICK, clean_scan, everything, noisy_scan
from tiny import SEED, new_network, write_weights

from napari_restore_rwkv.training.fine_tune import fine_tune
from napari_restore_rwkv.training.material import Material


@pytest.fixture
def clean():
    return clean_scan()


@pytest.fixture
def pair(clean):
    return Material(noisy_scan(clean), clean)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """The records and the outcome of an undisturbed fine-tuning of `weights_file` on `pair`; read-only."""
    torch.manual_seed(SEED)
    weights = write_weights(new_network(), tmp_path_factory.mktemp("tuned"))
    clean = clean_scan()
    return everything(fine_tune(weights, Material(noisy_scan(clean), clean), QUICK))
