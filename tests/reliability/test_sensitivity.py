"""The spread over flips and turns: none for what treats all directions alike, known for what does not."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.reliability.sensitivity import passes_needed, sensitivity
from napari_restore_rwkv.restoration.detail import Blend
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.slices import Plan
from napari_restore_rwkv.restoration.source import Slice
from napari_restore_rwkv.scans.scan import Scan


@pytest.fixture
def one(rng):
    """A slice of 40 x 56 around 40 HU, its own neighbour, and how it is restored."""
    image = rng.normal(40, 10, (40, 56)).astype(np.float32)
    scan = Scan(image[None], (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
    return Slice(0, image, image, image), Plan(choose_intensity(scan), None, modality="CT")


def run(steps):
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as stop:
            return told, stop.value


class Darkens(nn.Module):
    """The left half, however the slice lies, and in all directions alike elsewhere."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        left = torch.zeros_like(x)
        left[..., : x.shape[-1] // 2] = self.by
        return x - left


def test_a_network_that_treats_all_directions_alike_has_no_spread(one):
    class Scales(nn.Module):
        def forward(self, x):
            return 0.9 * x

    slice_, plan = one
    told, found = run(sensitivity(slice_, Scales(), plan))
    assert (told[-1].done, told[-1].total) == (8, passes_needed())
    assert found.median < 1e-3
    assert found.deviation.shape == (40, 56)


def test_a_dependence_on_orientation_is_measured_in_units(one):
    slice_, plan = one
    by = plan.intensity.to_network(np.full((2, 2), 50.0, np.float32)) - plan.intensity.to_network(
        np.full((2, 2), 40.0, np.float32)
    )
    _, found = run(sensitivity(slice_, Darkens(float(by[0, 0])), plan))
    # Four of the eight are 10 HU darker at each place.
    assert np.median(found.deviation) == pytest.approx(10 * np.sqrt(2 / 7), rel=0.01)
    assert found.median == pytest.approx(np.median(found.deviation))
    _, half = run(sensitivity(slice_, Darkens(float(by[0, 0])), plan, Blend(0.5)))
    assert half.median == pytest.approx(found.median / 2, rel=0.01)
    assert len(found.highest) == 5
    assert found.highest[0][2] >= found.highest[-1][2]


def test_it_is_cancelled_between_two_passes(one):
    passes = []

    class Counts(nn.Module):
        def forward(self, x):
            passes.append(x.shape)
            return x

    slice_, plan = one
    steps = sensitivity(slice_, Counts(), plan)
    next(steps)
    steps.close()
    assert len(passes) < 8
