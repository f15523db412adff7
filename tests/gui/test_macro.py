"""The lines of Python and the commands that repeat what the panel did."""

import shlex
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Layer
from qtpy.QtGui import QGuiApplication

from napari_restore_rwkv import restore
from napari_restore_rwkv.gui.layers import RECORD, layer_to_scan, restored_layer
from napari_restore_rwkv.gui.macro import as_command, as_python
from napari_restore_rwkv.gui.options import RestoreOptions
from napari_restore_rwkv.restoration.detail import Blend, blended
from napari_restore_rwkv.scans.files import read_scan

CT = "CT abdomen"


@pytest.fixture
def layer(viewer, ct_layer):
    return viewer.add_layer(Layer.create(*ct_layer))


@pytest.fixture
def options(layer, weights_file):
    return RestoreOptions(layer=layer, weights=weights_file, run_on="cpu", axis="z", any_modality=True)


def replay(lines, viewer):
    names = {"viewer": viewer}
    exec(lines, names)
    return names


def test_every_choice_of_the_form_is_in_the_lines():
    told = {"layer", "weights", "run_on", "any_modality", "axis", "output", "time_index", "region", "strength"}
    assert {field.name for field in fields(RestoreOptions) if field.compare} == told


def test_a_restored_slice_is_repeated_by_its_line(viewer, options):
    lines = as_python(options, 0, 2, 1.0)
    assert "indices=[2]" in lines
    replay(lines, viewer)
    again = viewer.layers[-1]
    expected = restore(layer_to_scan(options.layer), options.weights, axis="z", indices=[2], any_modality=True)
    assert again is not options.layer
    assert np.array_equal(again.data, expected.voxels)
    assert not np.array_equal(again.data[2], options.layer.data[2])
    assert np.array_equal(again.data[1], options.layer.data[1])


@pytest.mark.slow
def test_strength_and_axis_are_those_that_were_used(viewer, options):
    lines = as_python(options, 1, None, 0.4)
    assert "axis='y', strength=0.4" in lines
    replay(lines, viewer)
    half = viewer.layers[-1].data
    replay(as_python(options, 1, None, 1.0), viewer)
    assert not np.array_equal(half, viewer.layers[-1].data)


def test_a_job_into_a_file_is_repeated_by_its_lines(viewer, options, tmp_path):
    output = tmp_path / "again.ome.zarr"
    replay(as_python(replace(options, output=output, region="volume"), 0, None, 1.0), viewer)
    replay(as_python(options, 0, None, 1.0), viewer)
    assert np.array_equal(np.asarray(read_scan(output).voxels), viewer.layers[-1].data)


def test_a_frame_is_chosen_in_the_lines(viewer, options):
    stack = viewer.add_image(np.stack([options.layer.data, options.layer.data + 1]), name='four "D"')
    names = replay(as_python(replace(options, layer=stack, time_index=1), 0, 0, 1.0), viewer)
    assert names["restored"].shape == options.layer.data.shape


def test_the_command_names_the_file_and_the_choices(options, tmp_path):
    assert as_command(options, 0, 1.0) == "", "nobody knows the file"
    file = tmp_path / "a scan.nii"
    file.touch()
    known = replace(options, weights="classical:ct-denoise")
    options.layer.metadata[RECORD]["path"] = str(file)
    words = shlex.split(as_command(known, 0, 0.5))
    assert words[:4] == ["restore-rwkv", "restore", str(file), str(file.with_name("restored.nii.gz"))]
    assert " ".join(words[4:]) == "--task ct-denoise --classical --axis z --device cpu --strength 0.5 --any-modality"
    assert "--checkpoint /w.pth" in as_command(replace(options, weights=Path("/w.pth")), 0, 1.0)


def test_a_job_on_a_cluster_names_its_scheduler(options, tmp_path):
    file = tmp_path / "scan.nii"
    file.touch()
    options.layer.metadata[RECORD]["path"] = str(file)
    there = replace(options, region="volume", output=tmp_path / "r.ome.zarr", run_on="tcp://host:8786")
    assert " --scheduler tcp://host:8786" in as_command(there, 0, 1.0)
    lines = as_python(there, 0, None, 1.0)
    assert f"Source({str(file)!r}, {str(options.weights)!r}, OpenOptions(modality=" in lines
    assert "StagedClusterJob('tcp://host:8786', source, scan" in lines
    compile(lines, "console", "exec")


def test_the_panel_copies_the_line_of_what_it_did(ct_panel, run_to_the_end):
    assert ct_panel.macro.isHidden()
    run_to_the_end(ct_panel)
    assert not ct_panel.macro.isHidden()
    ct_panel.macro.python.click()
    line = QGuiApplication.clipboard().text()
    assert f"viewer.layers['{CT}'], 'ct-denoise', axis='z', indices=[2], device='cpu'" in line
    assert ct_panel.message.text() == "Copied: paste it into napari's console."
    assert not ct_panel.macro.command.isEnabled()
    run_to_the_end(ct_panel, "volume")
    assert len(ct_panel.macro.lines) == 2
    assert "indices" not in ct_panel.macro.lines[-1]
    ct_panel.macro.show_all.click()
    assert ct_panel.macro.text.toPlainText() == "\n\n".join(ct_panel.macro.lines)


def test_a_cancelled_job_leaves_no_line(ct_panel, restoration, qtbot):
    ct_panel.form.region.value = "volume"
    restoration.hold.clear()
    ct_panel.restore()
    qtbot.waitUntil(lambda: bool(restoration.order))
    ct_panel.cancel()
    qtbot.waitUntil(lambda: not ct_panel.job.running)
    assert ct_panel.macro.lines == []


@pytest.mark.slow
def test_detail_back_is_in_the_lines_and_repeated_by_them(viewer, options):
    blend = Blend(0.8, 0.25, 1.0)
    stack = viewer.add_image(np.stack([options.layer.data, options.layer.data]), name="frames")
    for chosen in (options, replace(options, layer=stack, time_index=1)):
        scan = layer_to_scan(chosen.layer, chosen.time_index)
        whole = restore(scan, options.weights, axis="z", any_modality=True, dtype="float32").voxels
        change = whole - scan.voxels.astype(np.float32)
        expected = [before + blended(one, blend) for before, one in zip(scan.voxels, change, strict=True)]
        again = replay(as_python(chosen, 0, None, 1.0, blend), viewer)["restored"]
        voxels = again.data if chosen is options else again.voxels
        np.testing.assert_allclose(voxels, expected, atol=1e-3)
        assert np.abs(voxels - whole).max() > 0.1
    assert viewer.layers[-1].name == f"{CT} [restored]"


def test_the_lines_follow_the_sliders_and_repeat_what_is_shown(viewer, ct_panel, run_to_the_end, monkeypatch):
    run_to_the_end(ct_panel, "volume")
    assert not ct_panel.macro.command.isEnabled() or "strength" not in ct_panel.macro.lines[-1]
    ct_panel.compare.strength.setValue(60)
    ct_panel.compare.fine.setValue(100)
    ct_panel.compare._mix()
    assert len(ct_panel.macro.lines) == 1, "it was restored once"
    shown = ct_panel.compare.comparison.restored.data
    whole = restored_layer(viewer.layers[CT], ct_panel.job.comparison.result.restored)
    monkeypatch.setattr("napari_restore_rwkv.restore", lambda *words, **choices: whole)
    replay(ct_panel.macro.lines[-1], viewer)
    np.testing.assert_array_equal(viewer.layers[-1].data, np.asarray(shown))
    assert not ct_panel.macro.command.isEnabled(), "no command puts detail back"
    ct_panel.macro.add("something else")
    ct_panel.compare.fine.setValue(0)
    ct_panel.compare._mix()
    assert len(ct_panel.macro.lines) == 3
    assert "strength=0.6" in ct_panel.macro.lines[-1]
    assert "Blend" not in ct_panel.macro.lines[-1]
