"""The lines of Python that repeat a fine-tuning run of the panel."""

import pytest
import torch

from napari_restore_rwkv.gui.fine_tune.macro import FineTuneMacro
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.training.bundle import available_bundles

PATIENCE_MS = 240_000


def replay(lines, viewer):
    names = {"viewer": viewer}
    exec(lines, names)
    return names


@pytest.mark.slow
def test_a_training_is_repeated_by_its_lines(viewer, pair_layers, make_fine_tune_panel, qtbot, bundles):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.start()
    qtbot.waitUntil(lambda: bool(panel.macro.lines), timeout=PATIENCE_MS)
    (bundle,) = available_bundles(bundles)
    kept = load_checkpoint(bundle.path, fused=False).state_dict()
    tuned = replay(panel.macro.lines[0], viewer)["tuned"]
    assert tuned.accepted
    assert all(torch.allclose(value, kept[name], atol=1e-5) for name, value in tuned.new.items())
    panel.macro.python.click()
    assert panel.message.text() == "Copied: paste it into napari's console."


def test_annotations_strength_and_mode_are_in_the_lines(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    labels = viewer.add_labels(viewer.layers["full dose"].data.astype(int) * 0, name="marks")
    macro = FineTuneMacro()
    choice = panel.choice()
    macro.begin(choice, labels)
    macro.end()
    (lines,) = macro.lines
    told = "degraded=layer_to_scan(viewer.layers['low dose']), target=layer_to_scan(viewer.layers['full dose'])"
    assert f"Material({told}, labels=viewer.layers['marks'].data)" in lines
    assert f"fine_tune({str(choice.weights)!r}, material, FineTuneOptions(steps={panel.recipe.steps}" in lines
    assert "axis='z'" in lines


def test_a_stopped_training_leaves_no_lines(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.macro.begin(panel.choice(), None)
    panel.run.stop.setEnabled(True)
    panel.run.stop.click()
    panel.macro.end()
    assert panel.macro.lines == []
