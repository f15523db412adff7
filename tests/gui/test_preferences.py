"""The plugin's settings in napari's preferences, and their effect on the panel."""

import os
from pathlib import Path

import pytest
from napari.settings import get_plugin_settings, get_settings

import napari_restore_rwkv
from napari_restore_rwkv.gui import preferences
from napari_restore_rwkv.gui.restore.save_choice import proposed_path

MANIFEST = Path(napari_restore_rwkv.__file__).parent.parent / "napari.yaml"


@pytest.fixture
def settings(npe2pm):
    """The plugin's settings, fresh, in the test's own folder."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield get_plugin_settings(preferences.PLUGIN).restoring


def test_without_the_plugin_registered_nothing_is_preferred(npe2pm):
    assert preferences.chosen_device() == "auto"
    assert preferences.results_folder() is None
    assert not preferences.wants_hint()
    preferences.hint_served()


def test_defaults_are_those_of_the_manifest(settings):
    assert preferences.chosen_device() == "auto"
    assert preferences.results_folder() is None
    assert preferences.wants_hint()


def test_the_preferred_device_is_chosen_and_one_that_is_not_there_is_not(settings, viewer, make_panel):
    settings.device = "cpu"
    assert preferences.chosen_device() == "cpu"
    settings.device = "cuda"
    assert make_panel(viewer).form.run_on.devices.currentData() == "cpu"


def test_results_are_proposed_for_the_folder_that_is_set(settings, ct_panel, tmp_path):
    settings.folder = str(tmp_path)
    assert proposed_path(ct_panel.form.layer.value).parent == tmp_path
    settings.folder = str(tmp_path / "gone")
    assert proposed_path(ct_panel.form.layer.value).parent == Path.home()


def test_first_steps_are_shown_until_the_first_scan_is_restored(settings, viewer, ct_panel, make_panel, run_to_the_end):
    assert not ct_panel.first_steps.isHidden()
    run_to_the_end(ct_panel)
    assert ct_panel.first_steps.isHidden()
    assert settings.hint is False
    assert "hint: false" in get_plugin_settings(preferences.PLUGIN).config_path.read_text()
    assert make_panel(viewer).first_steps.isHidden()


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_test_neither_reads_nor_writes_the_users_own_settings(settings, tmp_path, turn):
    """Twice: the second time must not see what the first one set."""
    assert get_settings().application.playback_fps == 10
    assert settings.hint
    get_settings().application.playback_fps = 17
    settings.hint = False
    kept = [get_settings().config_path, get_plugin_settings(preferences.PLUGIN).config_path]
    assert all(path.is_relative_to(tmp_path) and path.is_file() for path in kept)
    # What a process sees that a test starts.
    assert os.environ["NAPARI_CONFIG"] == str(kept[0])
