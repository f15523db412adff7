"""The list of weights: in which order, what is proposed, and that fine-tuned ones appear by themselves."""

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QFileDialog

from napari_restore_rwkv.gui.model_choice import ModelChoice
from napari_restore_rwkv.gui.surroundings import ModelEntry
from napari_restore_rwkv.network.checkpoint import Card
from napari_restore_rwkv.tasks import TASKS
from napari_restore_rwkv.training.bundle import save_bundle

FILTER = ModelEntry("ct-filter", "classical filter", "no network", "CT", learned=False)
LIGHT = ModelEntry("ct-denoise", "light (experimental)", "a network", "CT")
HEAD = ModelEntry("mri-sr", "light, 2026-12", "a network", "MR")
MODELS = {"ct-denoise": (FILTER, LIGHT), "mri-sr": (HEAD,)}


@pytest.fixture
def choice(qtbot):
    """The list for CT denoising, once the folder of bundles was looked at."""
    choices = []

    def make(**options):
        choice = ModelChoice(**options)
        choices.append(choice)
        qtbot.waitUntil(lambda: bool(choice._watcher.directories()), timeout=20_000)
        return choice

    yield make
    for made in choices:
        made.native.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def titles(choice):
    return [choice.combo.itemText(row) for row in range(choice.combo.count())]


def tuned(bundles, network, title, task="ct-denoise", accepted=True):
    details = {"verdict": {"accepted": accepted}}
    return save_bundle(bundles / title, Card(title, task, "CT", details=details), weights=network.state_dict())


def test_the_first_of_a_task_is_proposed_in_the_order_given(choice):
    weights = choice()
    weights.tell_models(MODELS)
    assert titles(weights) == ["classical filter", "light (experimental)", "choose a file ..."]
    assert weights.entry is FILTER
    weights.set_task(TASKS["mri-sr"])
    assert weights.entry is HEAD
    weights.tell_models({"mri-sr": (LIGHT, HEAD)})
    assert weights.entry is LIGHT, "nobody had picked the other one"


def test_the_users_choice_stays_until_a_call_returns_to_the_proposal(choice):
    weights = choice()
    weights.tell_models(MODELS)
    weights.combo.setCurrentIndex(1)
    weights.combo.activated.emit(1)
    weights.set_task(TASKS["mri-sr"])
    weights.set_task(TASKS["ct-denoise"])
    assert weights.entry is LIGHT
    weights.use_proposed()
    assert weights.entry is FILTER


def test_listed_weights_are_chosen_by_their_name_even_before_they_are_listed(choice):
    weights = choice()
    weights.use_listed("ct-denoise")
    assert weights.entry.weights == "ct-denoise"
    weights.tell_models(MODELS)
    assert weights.entry is LIGHT
    weights.use_listed("ct-filter")
    assert weights.entry is FILTER


def test_what_cannot_be_fine_tuned_is_left_out_where_only_networks_are_wanted(choice):
    weights = choice(learned_only=True)
    weights.tell_models(MODELS)
    assert weights.entry is LIGHT
    assert "classical filter" not in titles(weights)


def test_a_task_without_weights_offers_a_file(choice, tmp_path):
    weights = choice()
    weights.tell_models({})
    assert titles(weights) == ["no weights yet: choose a file", "choose a file ..."]
    assert weights.entry is None
    weights.use_file(tmp_path / "own.safetensors")
    assert titles(weights) == ["own.safetensors", "choose a file ..."]
    assert weights.entry.weights == tmp_path / "own.safetensors"


def test_a_bundle_appears_at_once_between_shipped_weights_and_files(choice, qtbot, bundles, tiny_network, tmp_path):
    weights = choice()
    weights.tell_models({"ct-denoise": (LIGHT,)})
    weights.use_file(tmp_path / "own.safetensors")
    changes = []
    weights.changed.connect(lambda: changes.append(True))
    tuned(bundles, tiny_network, "for our scanner")
    tuned(bundles, tiny_network, "for heads", task="mri-sr")
    tuned(bundles, tiny_network, "tried", accepted=False)
    qtbot.waitUntil(lambda: len(titles(weights)) == 5, timeout=10_000)
    assert titles(weights) == [
        "light (experimental)",
        "for our scanner",
        "tried (not accepted)",
        "own.safetensors",
        "choose a file ...",
    ]
    assert weights.entry.title == "own.safetensors"
    assert changes == [], "the choice is the same"
    weights.set_task(TASKS["mri-sr"])
    assert "for heads" in titles(weights)


def test_a_damaged_bundle_is_listed_with_the_reason_and_cannot_be_chosen(choice, qtbot, bundles):
    weights = choice()
    weights.tell_models({"ct-denoise": (LIGHT,)})
    (bundles / "ours.restorerwkv").write_bytes(b"no zip")
    qtbot.waitUntil(lambda: "ours (cannot be used)" in titles(weights), timeout=10_000)
    item = weights.combo.model().item(1)
    assert not item.isEnabled()
    assert item.toolTip().startswith("<qt>ours.restorerwkv is damaged or was changed")


def test_the_file_chooser_left_without_a_file_changes_nothing(choice, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    weights = choice()
    weights.tell_models(MODELS)
    weights.combo.setCurrentIndex(2)
    weights.combo.activated.emit(2)
    assert weights.entry is FILTER
