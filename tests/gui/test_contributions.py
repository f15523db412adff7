"""What napari finds in the manifest, and what happens when it is used."""

from pathlib import Path

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from npe2 import PluginManager, PluginManifest

import napari_restore_rwkv
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.compare.compare_panel import BLINK_KEY
from napari_restore_rwkv.gui.compare.keys import KEYS, key_of
from napari_restore_rwkv.gui.layers import RECORD, layer_to_scan, scan_to_layer
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.zarr.writing import choose_layout, create_image, write_slab

MANIFEST = Path(napari_restore_rwkv.__file__).parent.parent / "napari.yaml"
PLUGIN = "napari-restore-rwkv"


@pytest.fixture
def plugin(npe2pm):
    """The plugin manager with the repository's manifest, and no other plugin."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield npe2pm


def test_the_manifest_is_valid_and_every_command_can_be_imported():
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert (manifest.name, manifest.display_name) == (PLUGIN, "Restore-RWKV")


def test_the_installed_plugin_is_discovered_with_the_repositorys_manifest():
    manager = PluginManager()
    manager.discover()
    assert PLUGIN in manager, "install it: pip install -e ."
    installed = manager.get_manifest(PLUGIN)
    assert installed.contributions == PluginManifest.from_file(MANIFEST).contributions


def test_the_menus_offer_restore_and_compare(plugin):
    menus = {
        menu: [item.command for item in plugin.iter_menu(menu)]
        for menu in ("napari/layers/filter", "napari/layers/visualize")
    }
    assert menus == {
        "napari/layers/filter": [f"{PLUGIN}.restore_selected_layer"],
        "napari/layers/visualize": [f"{PLUGIN}.compare_result"],
    }


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_reading_and_writing_through_napari_keeps_the_geometry(plugin, ct_scan, tmp_path, suffix):
    write_scan(ct_scan, tmp_path / f"first{suffix}")
    viewer = ViewerModel()
    (layer,) = viewer.open(tmp_path / f"first{suffix}", plugin=PLUGIN)
    assert layer.name == "first"
    assert np.allclose(layer.scale, ct_scan.spacing_mm)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert viewer.dims.axis_labels == ("z", "y", "x")
    written = layer.save(str(tmp_path / f"second{suffix}"), plugin=PLUGIN)
    assert str(tmp_path / f"second{suffix}") in written
    scan = read_scan(tmp_path / f"second{suffix}")
    assert np.array_equal(scan.voxels, ct_scan.voxels)
    assert np.allclose(scan.direction, ct_scan.direction, atol=1e-6)
    assert np.allclose(scan.origin_mm, ct_scan.origin_mm)
    assert scan.modality == "CT"


def test_a_zarr_folder_opens_without_being_read(plugin, ct_scan, tmp_path):
    folder = tmp_path / "large.ome.zarr"
    layout = choose_layout(ct_scan.shape, ct_scan.voxels.dtype, 0, slab=1)
    create_image(folder, ct_scan, layout)
    for slab in range(layout.slabs):
        write_slab(folder, layout, slab, ct_scan.voxels[slab : slab + 1])
    # What is broken is not noticed before it is looked at.
    (folder / layout.files(layout.slabs - 1)[0]).write_bytes(b"broken")
    viewer = ViewerModel()
    (layer,) = viewer.open(folder, plugin=PLUGIN)
    assert layer.name == "large"
    scan = layer_to_scan(layer)
    assert np.array_equal(scan.voxels[0], ct_scan.voxels[0])
    assert np.allclose(scan.direction, ct_scan.direction)
    assert (scan.modality, scan.unit) == (ct_scan.modality, ct_scan.unit)
    with pytest.raises(Exception, match=r"."):
        scan.voxels[-1]


def test_the_writer_refuses_a_colour_picture_with_a_message(tmp_path):
    with pytest.raises(ScanError, match="is a colour image"):
        contributions.write_image(
            str(tmp_path / "a.nii"), np.zeros((4, 5, 3), np.uint8), {"name": "photo", "rgb": True}
        )


def test_the_reader_only_reads_the_beginning_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_restore_rwkv.scans.files.read_scan", lambda *_, **__: pytest.fail("it read"))
    (tmp_path / "scan.nii.gz").write_bytes(b"not read")
    (tmp_path / "notes.txt").write_text("no scan")
    folder = tmp_path / "series"
    folder.mkdir()
    assert contributions.get_reader(str(tmp_path / "scan.nii.gz")) is not None
    assert contributions.get_reader(str(tmp_path / "notes.txt")) is None
    assert contributions.get_reader(str(folder)) is None
    (folder / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert contributions.get_reader(str(folder)) is not None
    assert contributions.get_reader([str(tmp_path / "scan.nii.gz")]) is None


def test_a_damaged_file_is_refused_with_a_message(plugin, tmp_path):
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\nnonsense")
    with pytest.raises(ScanError, match=r"broken\.nrrd"):
        ViewerModel().open(tmp_path / "broken.nrrd", plugin=PLUGIN)


@pytest.mark.parametrize("key", sorted(contributions.SAMPLES))
def test_sample_scans_open(plugin, key):
    viewer = ViewerModel()
    (layer,) = viewer.open_sample(PLUGIN, key)
    assert layer.name == contributions.SAMPLES[key][1]
    assert layer.ndim == 3
    assert layer.metadata[RECORD]["modality"] == contributions.SAMPLES[key][2]
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3


def test_every_key_is_in_the_documentation():
    told = (MANIFEST.parent / "docs" / "index.md").read_text(encoding="utf-8")
    assert [key for key in (BLINK_KEY, *map(key_of, KEYS)) if f"| {key} |" not in told] == []


def test_menu_entries_need_a_window():
    assert napari.current_viewer() is None
    with pytest.raises(ScanError, match="needs an open napari window"):
        contributions.restore_selected_layer()


def test_a_lazy_layer_is_written_without_being_read_as_a_whole(plugin, ct_scan, tmp_path, monkeypatch):
    monkeypatch.setitem(export_scan.__kwdefaults__, "large", 100)
    monkeypatch.setattr("napari_restore_rwkv.scans.export._SLICES", 2)
    read = []

    def box_of(box):
        read.append(box[0].stop - box[0].start)
        return ct_scan.voxels[box]

    lazy = ct_scan.with_voxels(LazyVoxels(ct_scan.shape, np.int16, box_of))
    layer = Layer.create(*scan_to_layer(lazy, "large"))
    read.clear()
    layer.save(str(tmp_path / "large.mha"), plugin=PLUGIN)
    assert max(read) <= 2
    assert np.array_equal(read_scan(tmp_path / "large.mha").voxels, ct_scan.voxels)
