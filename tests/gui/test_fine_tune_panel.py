"""The messages of the Fine-tune panel before training."""

import numpy as np
import pytest
from napari.layers import Layer

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.fine_tune import panel as fine_tune_panel
from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.gui.restore import panel as restore_panel
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.training.bundle import save_bundle
from napari_restore_rwkv.training.noise import preview_degradation

SIMULATED = "full dose [simulated degradation]"


def checked(qtbot, panel):
    qtbot.waitUntil(lambda: not panel._checks.busy, timeout=20_000)
    return panel


def learn_from(panel, mode):
    panel.form.mode.value = mode


def other(layer, name, **changes):
    """Another layer data tuple, of a scan that differs from this one."""
    voxels, attributes, _ = layer
    known = {"spacing_mm": attributes["scale"], "modality": "CT", "unit": "HU"} | changes
    return scan_to_layer(Scan(known.pop("voxels", voxels), **known), name)


def test_with_two_scans_open_everything_is_chosen(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    form = panel.form
    assert form.mode.current_choice == "pairs: scan and its reference"
    assert (form.scan_layer.current_choice, form.reference_layer.current_choice) == ("low dose", "full dose")
    assert form.about_scan.text() == "16 x 32 x 32 · 3.0 x 1.0 x 1.0 mm · HU"
    assert form.task.value == "ct-denoise"
    assert (
        panel.split.text() == "Trains on slices 0-6, 14-15 (9), holds out 9-11 (3), leaves out 7-8, 12-13 between them."
    )
    assert panel.warnings.isHidden()
    assert panel.run.start.isEnabled()
    assert not panel.run.stop.isEnabled()


def test_without_a_scan_the_panel_says_what_to_do(viewer, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer)
    assert panel.form.about_scan.text() == "Open a scan, or a sample: File > Open Sample."
    assert panel.warnings.isHidden(), "the form says it"
    assert not panel.run.start.isEnabled()
    panel.start()
    assert panel.message.text().startswith("Open a scan first: File > Open")


def test_a_second_scan_is_proposed_as_reference_when_it_is_opened(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, pair_layers[0])
    assert panel.form.reference_layer.value is None, "a scan is not its own reference"
    assert panel.form.reference_layer.native.placeholderText() == "no other scan is open"
    assert panel.warnings.text().startswith("There is no second scan: open the reference, or train on")
    assert not panel.run.start.isEnabled()
    viewer.add_layer(Layer.create(*pair_layers[1]))
    assert panel.form.reference_layer.current_choice == "full dose"
    checked(qtbot, panel)
    assert panel.warnings.isHidden()
    assert panel.run.start.isEnabled()
    viewer.layers.remove("full dose")
    assert panel.form.reference_layer.value is None
    assert not panel.run.start.isEnabled()


def test_the_only_scan_is_proposed_where_no_other_is_asked_for(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, pair_layers[1])
    for mode in ("reference", "noisy"):
        learn_from(panel, mode)
        assert panel.form.layer is viewer.layers["full dose"]
    learn_from(panel, "paired")
    assert panel.form.reference_layer.value is None


def test_a_scan_chosen_as_its_own_reference_is_refused_at_once(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.form.reference_layer.choose(viewer.layers["low dose"])
    assert panel.warnings.text().startswith("The scan is its own reference: choose another one, or train")
    assert not panel.run.start.isEnabled()
    panel.form.reference_layer.choose(viewer.layers["full dose"])
    checked(qtbot, panel)
    assert panel.run.start.isEnabled()


def test_a_check_that_ends_late_does_not_allow_what_was_taken_away(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    passed = panel.state.report
    viewer.layers.remove("full dose")
    panel._checks.answered.emit(passed)
    assert panel.warnings.text().startswith("There is no second scan")
    assert not panel.run.start.isEnabled()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"voxels": np.zeros((16, 30, 32), np.int16)},
            "The degraded scan has 16 x 32 x 32 voxels and its reference 16 x",
        ),
        (
            {"spacing_mm": (3.0, 2.0, 1.0)},
            "The voxels of the degraded scan are 3 x 1 x 1 mm and those of its reference",
        ),
        ({"modality": "MR"}, "The degraded scan is CT and its reference MR; give two scans of the same modality."),
    ],
    ids=["shape", "spacing", "modality"],
)
def test_a_pair_that_does_not_match_is_refused(viewer, pair_layers, make_fine_tune_panel, changes, words):
    panel = make_fine_tune_panel(viewer, pair_layers[0], other(pair_layers[1], "odd", **changes))
    assert panel.warnings.text().startswith(words)
    panel.start()
    assert panel.warnings.text().startswith(words)
    assert panel.message.isHidden(), "the panel shows it above"
    assert not panel.job.running
    assert not panel.run.start.isEnabled()
    assert panel.form.force.native.isHidden()


def test_a_shifted_pair_is_refused_and_can_be_forced(viewer, pair_layers, make_fine_tune_panel, qtbot):
    shifted = other(pair_layers[1], "shifted", voxels=np.roll(pair_layers[1][0], 2, axis=1))
    panel = make_fine_tune_panel(viewer, pair_layers[0], shifted)
    assert panel.warnings.text().startswith("The degraded scan is shifted relative to its reference by")
    assert not panel.form.force.native.isHidden()
    assert not panel.run.start.isEnabled()
    panel.form.force.value = True
    checked(qtbot, panel)
    assert panel.run.start.isEnabled()
    assert panel.state.report.refusal == ""
    assert panel.warnings.text().endswith("without blurring: forced.")
    panel.form.scan_layer.choose(viewer.layers["shifted"])
    assert not panel.form.force.value, "what was forced was another pair"


def test_weights_for_another_modality_are_refused_with_a_message(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.form.task.value = "mri-sr"
    checked(qtbot, panel)
    assert panel.warnings.text() == "These weights were made for MR, but this scan is CT; choose weights for CT."


def test_a_task_chosen_by_the_user_stays_in_another_mode(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    panel.form.task.value = "all-in-one"
    learn_from(panel, "noisy")
    assert panel.choice().task == "all-in-one"


@pytest.mark.slow
def test_the_menu_entry_opens_the_panel_with_labels_on_the_selected_scan(
    make_napari_viewer, pair_layers, restoration, monkeypatch
):
    monkeypatch.setattr(fine_tune_panel, "look_around", restore_panel.look_around)
    viewer = make_napari_viewer()
    for layer in pair_layers:
        viewer.add_layer(Layer.create(*layer))
    contributions.annotate_for_fine_tuning()
    (dock,) = viewer.window._wrapped_dock_widgets.values()
    assert viewer.layers.selection.active.name == "full dose [annotations]"
    assert dock.inner_widget().choice().labels is viewer.layers["full dose [annotations]"].data
    viewer.close()


def test_each_mode_asks_only_for_what_it_needs(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    learn_from(panel, "noisy")
    assert panel.form.reference_layer.native.isHidden()
    assert panel.degradation.isHidden()
    choice = panel.choice()
    assert (choice.target, choice.strength, choice.layer.name) == (None, None, "low dose")
    checked(qtbot, panel)
    assert panel.state.report.split.startswith("Trains on slices 1-6, 14 (7)"), "those with two neighbours"
    learn_from(panel, "reference")
    assert panel.form.scan_layer.native.isHidden()
    assert not panel.degradation.isHidden()
    choice = panel.choice()
    assert (choice.degraded, choice.layer.name) == (None, "full dose")
    assert choice.strength == panel.form.strength.value == 1.0


def test_noise_that_neighbouring_slices_share_is_refused_for_a_noisy_scan_alone(
    viewer, pair_layers, make_fine_tune_panel, qtbot, rng
):
    shared = pair_layers[1][0] + rng.normal(0, 50, (1, 32, 32))
    panel = make_fine_tune_panel(viewer, other(pair_layers[0], "copied", voxels=shared.astype(np.int16)))
    learn_from(panel, "noisy")
    checked(qtbot, panel)
    assert panel.warnings.text().startswith("The noise of neighbouring slices is correlated (")


def test_the_shown_degradation_follows_slice_and_strength(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    viewer.dims.set_current_step(0, 5)
    learn_from(panel, "reference")
    panel.degradation.preview.setChecked(True)
    qtbot.waitUntil(lambda: SIMULATED in viewer.layers, timeout=20_000)
    target = panel.choice().target
    assert np.array_equal(viewer.layers[SIMULATED].data[5], preview_degradation(target, 5, "ct-denoise", 1.0))
    assert viewer.canvas.grid.enabled
    assert not viewer.layers["low dose"].visible
    panel.form.strength.value = 3.0
    viewer.dims.set_current_step(0, 8)
    wanted = preview_degradation(target, 8, "ct-denoise", 3.0)
    qtbot.waitUntil(lambda: np.array_equal(viewer.layers[SIMULATED].data[8], wanted), timeout=20_000)
    panel.degradation.preview.setChecked(False)
    assert SIMULATED not in viewer.layers
    assert not viewer.canvas.grid.enabled
    assert viewer.layers["low dose"].visible


@pytest.mark.slow
def test_the_strength_is_fitted_to_the_noise_of_a_layer(viewer, pair_layers, make_fine_tune_panel, qtbot):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    learn_from(panel, "reference")
    tools = panel.degradation
    tools.like.choose(viewer.layers["low dose"])
    tools.fit_button.click()
    qtbot.waitUntil(lambda: tools.about.text().startswith("noise "), timeout=30_000)
    assert tools.about.text().endswith("HU with this strength")
    assert panel.choice().strength == panel.form.strength.value > 1.0
    tools.like.choose(viewer.layers["full dose"])
    tools.fit_button.click()
    qtbot.waitUntil(lambda: "there is nothing to add" in panel.message.text(), timeout=30_000)
    assert tools.fit_button.isEnabled()


def test_a_bundle_is_exported_imported_and_refused_if_it_was_changed(
    viewer, pair_layers, make_fine_tune_panel, qtbot, bundles, tiny_network, tmp_path
):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    assert not panel.bundles.export_button.isEnabled()
    card = tiny_network.card
    original = save_bundle(tmp_path / "ours", card, weights=tiny_network.state_dict())
    panel.bundles.take_in(original)
    qtbot.waitUntil(lambda: panel.message.text().startswith("ours was checked"), timeout=20_000)
    assert (bundles / "ours.restorerwkv").read_bytes() == original.read_bytes()
    panel.bundles.take_in(original)
    qtbot.waitUntil((bundles / "ours 2.restorerwkv").exists, timeout=20_000)

    panel.form.weights.use_file(bundles / "ours.restorerwkv")
    assert panel.bundles.export_button.isEnabled()
    panel.bundles.export_to(tmp_path / "shared.restorerwkv")
    qtbot.waitUntil(lambda: panel.message.text() == f"Exported as {tmp_path / 'shared.restorerwkv'}", timeout=20_000)
    panel.bundles.export_to(original)
    refusal = "ours.restorerwkv already exists, and weights are never overwritten; give another name."
    qtbot.waitUntil(lambda: panel.message.text() == refusal, timeout=20_000)

    content = bytearray(original.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "tampered.restorerwkv").write_bytes(content)
    panel.bundles.take_in(tmp_path / "tampered.restorerwkv")
    qtbot.waitUntil(lambda: panel.message.text().startswith("tampered.restorerwkv is damaged or was changed"))
    assert not (bundles / "tampered.restorerwkv").exists()


def test_the_panel_opens_without_waiting_for_torch(viewer, qtbot, monkeypatch):
    asked = []
    monkeypatch.setattr(fine_tune_panel, "FunctionWorker", lambda work: asked.append(work) or _Never())
    panel = fine_tune_panel.FineTunePanel(viewer)
    assert [work.__name__ for work in asked] == ["_surroundings"]
    assert panel.form.device.current_choice == "the fastest there is"
    panel.shut_down()
    panel.deleteLater()


class _Never:
    """A worker that never answers."""

    class returned:
        connect = staticmethod(lambda slot: None)

    errored = returned

    def start(self):
        pass
