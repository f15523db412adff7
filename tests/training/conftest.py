"""Pairs and weights for tests of fine-tuning."""

import pytest
from phantom import clean_scan, noisy_scan

from napari_restore_rwkv.training.material import Material


@pytest.fixture
def clean():
    return clean_scan()


@pytest.fixture
def pair(clean):
    return Material(noisy_scan(clean), clean)
