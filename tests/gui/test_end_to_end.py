"""The panel with the real `restore` and a small network, without stand-ins."""

import json

import numpy as np
import pytest
import torch
from napari.layers import Layer

from napari_restore_rwkv.gui import surroundings
from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.network.checkpoint import Card, load_checkpoint, save_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import restore_slice
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.scan import Scan

pytestmark = pytest.mark.slow

RESTORED, DIFFERENCE = "CT abdomen [restored]", "CT abdomen [restored - input]"


@pytest.fixture
def weights(tmp_path):
    """A small random network that changes something, made for CT."""
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = tmp_path / "small.safetensors"
    save_checkpoint(network, Card(title="small", task="ct-denoise", modality="CT"), path)
    return path


@pytest.fixture
def panel(viewer, ct_layer, qtbot):
    viewer.add_layer(Layer.create(*ct_layer))
    viewer.dims.set_current_step(0, 3)
    panel = restore_panel.RestorePanel(viewer)
    qtbot.waitUntil(lambda: panel.form.run_on.devices.currentData() != "auto", timeout=20_000)
    yield panel
    panel.shut_down()
    panel.deleteLater()


def test_a_ct_scan_is_restored_slice_by_slice_and_saved(
    viewer, panel, weights, ct_scan, qtbot, run_to_the_end, tmp_path
):
    panel.form.weights.use_file(weights)
    run_to_the_end(panel, "slice")
    assert panel.message.text().startswith("This slice is restored")
    run_to_the_end(panel)
    assert panel.message.text().startswith("5 slices restored in")
    network, rule = load_checkpoint(weights), choose_intensity(ct_scan)
    expected = np.stack([restore_slice(image, network, rule) for image in ct_scan.voxels])
    assert np.abs(expected - ct_scan.voxels).max() > 1, "the network changes something"
    assert np.allclose(viewer.layers[RESTORED].data, expected, atol=0.01)
    assert np.allclose(viewer.layers[DIFFERENCE].data, expected - ct_scan.voxels, atol=0.01)

    target = tmp_path / "restored.nrrd"
    panel.compare.save_to(target)
    qtbot.waitUntil(lambda: panel.message.text() == f"Saved as {target}", timeout=10_000)
    record = json.loads((tmp_path / "restored.nrrd.json").read_text())
    assert record["weights"] == "small"
    assert record["slices"] == 5, "both runs together"
    assert record["notice"] == "Research use only. Not for diagnosis."
    assert np.allclose(read_scan(target).direction, ct_scan.direction)


def test_the_digest_of_two_runs_is_that_of_one(viewer, panel, weights, run_to_the_end):
    panel.form.weights.use_file(weights)
    run_to_the_end(panel, "slice")
    run_to_the_end(panel, "volume")
    in_two = panel.compare.comparison.result.provenance["input_sha256"]
    viewer.layers.remove(RESTORED)
    run_to_the_end(panel, "volume")
    assert panel.compare.comparison.result.provenance["input_sha256"] == in_two


def test_an_mr_scan_with_ct_weights_is_refused_then_allowed(viewer, panel, weights, run_to_the_end, rng):
    mr = Scan(rng.integers(0, 900, (3, 16, 16)).astype(np.int16), (5, 1, 1), modality="MR")
    viewer.add_layer(Layer.create(*scan_to_layer(mr, "head")))
    panel.form.weights.use_file(weights)
    run_to_the_end(panel)
    assert panel.message.text().startswith("These weights were made for CT, but this scan is MR")
    assert not panel.form.any_modality.native.isHidden()
    panel.form.any_modality.value = True
    run_to_the_end(panel)
    assert panel.message.text().startswith("This slice is restored")


@pytest.mark.parametrize(
    ("hardware", "kernel", "title"),
    [
        ("CPU, 8 threads", "compiled CPU kernel (AVX-512)", "CPU, compiled kernel"),
        ("GPU: NVIDIA GeForce RTX 4070", "portable PyTorch", "GPU: RTX 4070, portable PyTorch"),
    ],
)
def test_devices_are_named_briefly(hardware, kernel, title):
    assert surroundings.short_title(hardware, kernel) == title


def test_the_reason_for_no_gpu_is_in_plain_words(panel):
    words = " ".join(device.advice for device in surroundings.look_around().devices)
    assert "'" not in words
    assert panel.form.run_on.devices.toolTip().startswith(("CPU", "GPU"))


def test_a_damaged_weights_file_is_refused_with_a_message(panel, tmp_path, run_to_the_end):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    panel.form.weights.use_file(tmp_path / "broken.safetensors")
    run_to_the_end(panel)
    assert panel.message.text().startswith("broken.safetensors cannot be read as weights")


@pytest.mark.parametrize("voxels", [np.full((1, 3, 5), 40, np.int16), np.full((3, 9, 9), np.nan, np.float32)])
def test_tiny_constant_and_empty_valued_scans_end_in_a_result_or_a_sentence(
    viewer, panel, weights, voxels, run_to_the_end
):
    scan = Scan(voxels, (3, 1, 1), modality="CT", unit="HU")
    viewer.add_layer(Layer.create(*scan_to_layer(scan, "odd")))
    panel.form.weights.use_file(weights)
    run_to_the_end(panel, "volume")
    assert panel.message.text()
    assert "unexpected" not in panel.message.text()
