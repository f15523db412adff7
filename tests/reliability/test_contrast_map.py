"""The map of lost contrast: known filters, positions, refusals, and cancelling."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.image_quality.contrast import contrast_kept, disc
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.reliability.contrast_map import Probe, contrast_map, passes_needed
from napari_restore_rwkv.restoration.intensity import IntensityRule
from napari_restore_rwkv.restoration.slices import Plan
from napari_restore_rwkv.restoration.source import Slice

pytestmark = pytest.mark.slow

PLAN = Plan(IntensityRule("ct-hu", -1024.0, 3072.0, "HU"))
PROBE = Probe(5.0, 8.0)


class Identity(nn.Module):
    def forward(self, x):
        return x


class Blur(nn.Module):
    """A mean over five by five pixels."""

    def forward(self, x):
        return nn.functional.avg_pool2d(nn.functional.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)


class ErasesTheRight(nn.Module):
    """Leaves the left half and smooths away all in the right one."""

    def forward(self, x):
        half = x.shape[3] // 2
        return torch.cat((x[..., :half], x[..., half:].mean(dim=(2, 3), keepdim=True).expand_as(x[..., half:])), dim=3)


@pytest.fixture
def one(rng):
    image = np.where(np.hypot(*np.ogrid[-80:80, -90:90]) < 75, 50, -1000) + rng.normal(0, 10, (160, 180))
    return Slice(0, *(image.astype(np.float32),) * 3)


def test_all_of_a_probe_survives_a_network_that_changes_nothing(one):
    found = finish(contrast_map(one, Identity(), PLAN, PROBE, (1.0, 1.0)))
    assert found.median == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.kept[np.isfinite(found.kept)], 1, atol=2e-3)
    assert found.passes == passes_needed()


def test_a_blur_keeps_what_theory_says(one):
    pattern = disc((41, 41), (20.0, 20.0), 8.0)
    blurred = Blur()(torch.from_numpy(pattern)[None, None])[0, 0].numpy()
    expected = contrast_kept(blurred, np.zeros_like(pattern), pattern)
    found = finish(contrast_map(one, Blur(), PLAN, PROBE, (1.0, 1.0)))
    assert found.median == pytest.approx(expected, rel=0.02)


def test_it_shows_where_contrast_is_lost(one):
    found = finish(contrast_map(one, ErasesTheRight(), PLAN, PROBE, (1.0, 1.0)))
    assert np.nanmedian(found.kept[:, :70]) == pytest.approx(1, abs=0.01)
    assert abs(np.nanmedian(found.kept[:, 110:])) < 0.1
    assert all(column > 80 and kept < 0.2 for _, column, kept in found.worst)


def test_air_is_left_out_of_the_map(one):
    found = finish(contrast_map(one, Identity(), PLAN, PROBE, (1.0, 1.0)))
    assert np.isnan(found.kept[:8, :8]).all()
    assert np.isfinite(found.kept[80, 90])


def test_the_probe_has_its_size_in_millimetres(one):
    sizes = []

    class Noting(nn.Module):
        def forward(self, x):
            sizes.append(float((x - torch.from_numpy(PLAN.intensity.to_network(one.image))).abs().sum()))
            return x

    for spacing in ((1.0, 1.0), (0.5, 2.0), (2.0, 2.0)):
        sizes.clear()
        finish(contrast_map(one, Noting(), PLAN, Probe(5.0, 12.0), spacing))
        area = np.pi * (12 / np.sqrt(spacing[0] * spacing[1]) / 2) ** 2
        # Each disc adds its contrast over its area; all of one lattice are whole.
        discs = sizes[0] * 4096 / 5 / area
        assert discs == pytest.approx(round(discs), rel=0.03)


def test_it_can_be_cancelled_between_passes_and_reports_their_number(one):
    steps = contrast_map(one, Identity(), PLAN, PROBE, (1.0, 1.0))
    assert next(steps).total == passes_needed()
    steps.close()


@pytest.mark.parametrize(("probe", "words"), [((5.0, 1.0), "take 1.5 mm or more"), ((5.0, 300.0), "is too small for")])
def test_a_probe_that_does_not_fit_is_refused(one, probe, words):
    with pytest.raises(ScanError, match=words):
        finish(contrast_map(one, Identity(), PLAN, Probe(*probe), (1.0, 1.0)))


@pytest.mark.parametrize("values", [(0.0, 4.0), (5.0, -1.0), (np.nan, 4.0)])
def test_an_impossible_probe_is_refused(values):
    with pytest.raises(ScanError, match="above 0"):
        Probe(*values)
