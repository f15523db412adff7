"""Before Restore: the noise of the scan, whether the weights know it, and the strength that is proposed."""

import numpy as np
import pytest
from napari.layers import Layer

from napari_restore_rwkv.gui import layers as layers_module
from napari_restore_rwkv.gui.layers import RECORD
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.gui.restore.stored_result import StoredResult
from napari_restore_rwkv.gui.surroundings import ModelEntry, Surroundings
from napari_restore_rwkv.restoration.detail import Blend
from napari_restore_rwkv.restoration.suitability import TRAINED_FOR
from napari_restore_rwkv.scans.scan import Scan

KNOWS = {TRAINED_FOR: {"noise": [6, 130], "mean_frequency": [0.08, 0.46]}}
COARSE_ONLY = {TRAINED_FOR: {"noise": [6, 130], "mean_frequency": [0.08, 0.2]}}
RESTORED = "CT [restored]"


@pytest.fixture
def noisy_panel(viewer, make_panel, restoration, rng, qtbot):
    """Make a panel with a CT scan of white noise, 20 HU or as strong as is said, for weights with such a card."""

    def make(details, sigma=20.0):
        restoration.details = details
        voxels = rng.normal(40, sigma, (3, 64, 64)).astype(np.float32)
        scan = Scan(voxels, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT", "HU", {})
        viewer.add_layer(Layer.create(*layers_module.scan_to_layer(scan, "CT")))
        panel = make_panel(viewer)
        qtbot.waitUntil(lambda: panel.form.advice.advice is not None)
        return panel

    return make


def test_the_noise_and_its_spectrum_are_in_the_form_before_restore(noisy_panel):
    panel = noisy_panel(KNOWS)
    words = panel.form.advice.line.text()
    measured = float(words.split("The noise is ")[1].split(" HU")[0])
    assert measured == pytest.approx(20, rel=0.15)
    assert "know 6 to 130 HU and this kernel" in words
    assert "cycles per pixel" in panel.form.advice.line.toolTip()
    assert "Spectrum fine, as of a very sharp kernel" in words
    assert not panel.form.advice.use_classical.isVisibleTo(panel)


def test_unknown_noise_proposes_a_strength_which_is_applied_and_recorded(noisy_panel, viewer, run_to_the_end):
    panel = noisy_panel(COARSE_ONLY)
    assert panel.form.advice.advice.strength == 0.6
    run_to_the_end(panel, "volume")
    assert panel.compare.strength.value() == 60
    change = np.asarray(viewer.layers[f"{RESTORED} · 60 %"].data) - np.asarray(viewer.layers["CT"].data)
    np.testing.assert_allclose(change, -0.6 * 5, atol=1e-4)
    record = viewer.layers[f"{RESTORED} · 60 %"].metadata[RECORD]["metadata"]
    assert record["restoration"]["strength"] == 0.6


def test_restore_pressed_before_the_noise_is_known_proposes_the_same(noisy_panel, run_to_the_end):
    panel = noisy_panel(COARSE_ONLY)
    panel.form.advice.clear()
    assert panel.form.options().strength is None
    run_to_the_end(panel, "slice")
    assert panel.compare.strength.value() == 60


def test_noise_beyond_the_weights_offers_the_classical_filter_in_one_click(noisy_panel, monkeypatch):
    classical = ModelEntry("classical:ct-denoise", "non-local means", "", "CT", learned=False)
    known = restore_panel.look_around()
    models = {"ct-denoise": (*known.models["ct-denoise"], classical)}
    monkeypatch.setattr(restore_panel, "look_around", lambda: Surroundings(known.devices, models))
    panel = noisy_panel(KNOWS, sigma=300.0)
    assert "the classical filter is proposed" in panel.form.advice.line.text()
    assert panel.form.advice.use_classical.isVisibleTo(panel)
    panel.form.advice.use_classical.click()
    assert panel.form.weights.entry is classical


@pytest.mark.parametrize(
    ("voxels", "sentence"),
    [
        (np.zeros((3, 8, 64)), "Noise cannot be measured in slices of 8 x 64 pixels; 16 along each side are needed."),
        (
            np.full((3, 64, 64), 1e300),
            "Noise cannot be measured among values as large as 1e+300; divide them by a constant.",
        ),
    ],
)
def test_the_form_says_why_noise_cannot_be_measured(viewer, make_panel, qtbot, voxels, sentence):
    viewer.add_layer(Layer.create(*layers_module.scan_to_layer(Scan(voxels, modality="CT"), "CT")))
    panel = make_panel(viewer)
    qtbot.waitUntil(lambda: panel.form.advice.advice is not None)
    assert panel.form.advice.line.text() == sentence


def test_a_result_that_is_saved_while_it_grows_is_made_with_the_strength(ct_scan):
    result = StoredResult(ct_scan, 0)
    result.propose(0.6)
    result.provenance = {"strength": 0.6}
    assert (result.proposed, result.applied) == (1.0, 0.6)
    assert result.metadata(Blend(0.5))["restoration"]["strength"] == pytest.approx(0.3)
