"""Echoes, time points and channels open as one layer with named frames, several series as a layer each."""

import nibabel
import numpy as np
import pytest
import tifffile
from napari.layers import Layer
from scans.dicoms import CORNER, GAP, NORMAL, write_series, write_slice
from scans.zarrs import ome

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.layers import RECORD, choice_of, frame_name, layer_to_scan, source_of
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.scan import same_geometry, to_canonical


def opened(path):
    assert contributions.get_reader(str(path)) is not None
    return [Layer.create(*layer) for layer in contributions.read(str(path))]


@pytest.fixture
def frames(rng):
    return rng.integers(0, 3000, (2, 3, 6, 8), dtype=np.uint16)


def test_two_echoes_open_as_named_frames(tmp_path, frames):
    for echo, stack in enumerate(frames):
        for index, pixels in enumerate(stack):
            tags = {"Modality": "MR", "RescaleIntercept": 0, "EchoTime": (20.0, 10.0)[echo]}
            write_slice(tmp_path / f"{index}{echo}.dcm", pixels, CORNER + index * GAP * NORMAL, **tags)
    [layer] = opened(tmp_path)
    assert layer.data.shape == (2, 3, 6, 8)
    assert tuple(layer.axis_labels) == ("t", "z", "y", "x")
    assert [frame_name(layer, number) for number in range(2)] == ["TE 10 ms", "TE 20 ms"]
    for number in range(2):
        scan = layer_to_scan(layer, number)
        alone = to_canonical(read_scan(tmp_path, time_index=number))
        np.testing.assert_array_equal(scan.voxels, alone.voxels)
        assert same_geometry(scan, alone)
        assert (scan.modality, scan.acquired_along) == ("MR", alone.acquired_along)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_nifti_with_time_opens_with_all_of_it(tmp_path, frames, name):
    affine = np.array([[-0.8, 0, 0, 10], [0, 0.7, 0.1, 20], [0, -0.1, 2.0, 30], [0, 0, 0, 1.0]])
    affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1]) * -3
    nibabel.save(nibabel.Nifti1Image(frames.T.astype(np.int16), affine), tmp_path / name)
    [layer] = opened(tmp_path / name)
    assert layer.data.shape[0] == 2
    for number in range(2):
        alone = to_canonical(read_scan(tmp_path / name, time_index=number))
        np.testing.assert_array_equal(layer_to_scan(layer, number).voxels, alone.voxels)
        assert same_geometry(layer_to_scan(layer, number), alone)
    assert frame_name(layer, 1) == "frame 1"


@pytest.mark.parametrize(
    ("axes", "shape", "names"),
    [
        ("czyx", (2, 3, 6, 8), ["channel 0", "channel 1"]),
        ("tzyx", (2, 3, 6, 8), ["time 0", "time 1"]),
        (
            "tczyx",
            (2, 2, 3, 6, 8),
            ["time 0, channel 0", "time 0, channel 1", "time 1, channel 0", "time 1, channel 1"],
        ),
    ],
)
def test_channels_and_times_of_a_zarr_open_unread(tmp_path, rng, axes, shape, names):
    voxels = rng.integers(0, 3000, shape, dtype=np.uint16)
    path = ome(tmp_path / "scan.ome.zarr", voxels, axes, scale=[1.0] * (len(shape) - 3) + [2.0, 0.5, 0.5])
    [layer] = opened(path)
    assert not isinstance(layer.data, np.ndarray)
    assert layer.data.shape == (len(names), 3, 6, 8)
    assert list(layer.metadata[RECORD]["frames"]) == names
    flat = voxels.reshape(-1, 3, 6, 8)
    np.testing.assert_array_equal(np.asarray(layer.data), flat)
    np.testing.assert_array_equal(np.asarray(layer.data[1, 2]), flat[1, 2])
    np.testing.assert_array_equal(np.asarray(layer_to_scan(layer, 1).voxels[1:2]), flat[1, 1:2])
    assert layer_to_scan(layer, 1).spacing_mm == (2.0, 0.5, 0.5)


def test_every_series_of_a_study_becomes_a_layer(tmp_path, frames):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    write_series(tmp_path / "a" / "deep", frames[0], names="abc")
    write_series(tmp_path / "b", frames[1], names="xyz", SeriesInstanceUID="1.2.3.5", SeriesDescription="Liver")
    layers = opened(tmp_path)
    assert [layer.name.split()[-1] for layer in layers] == ["Thorax", "Liver"]
    for number, layer in enumerate(layers, 1):
        alone = to_canonical(open_scan(tmp_path, series=str(number)))
        np.testing.assert_array_equal(layer_to_scan(layer).voxels, alone.voxels)


def test_a_single_frame_is_an_ordinary_layer(tmp_path, frames):
    write_series(tmp_path / "one", frames[0], names="abc")
    [layer] = opened(tmp_path / "one")
    assert (layer.ndim, layer.name) == (3, "one")


def test_omitted_files_are_reported(tmp_path, frames, monkeypatch):
    said = []
    monkeypatch.setattr(contributions, "show_info", said.append)
    write_series(tmp_path / "one", frames[0], names="abc")
    (tmp_path / "one" / "letter.txt").write_text("hello")
    opened(tmp_path / "one")
    assert said == ["one: Left out, because it is not a slice of a scan: letter.txt."]


def test_the_panel_takes_the_frame_on_screen_and_names_it(viewer, make_panel, tmp_path, frames, run_to_the_end):
    for echo, stack in enumerate(frames):
        for index, pixels in enumerate(stack):
            tags = {"RescaleIntercept": -1024, "EchoTime": (10.0, 20.0)[echo]}
            write_slice(tmp_path / f"{index}{echo}.dcm", pixels, CORNER + index * GAP * NORMAL, **tags)
    [layer] = opened(tmp_path)
    viewer.add_layer(layer)
    viewer.dims.set_current_step(0, 1)
    panel = make_panel(viewer)
    assert panel.form.time_index.value == 1
    assert panel.form.about_scan.text().endswith("TE 20 ms")
    run_to_the_end(panel)
    assert any("TE 20 ms [restored]" in one.name for one in viewer.layers)


def test_a_grey_tiff_opens_and_a_colour_picture_is_left_to_other_readers(tmp_path, frames):
    path = tmp_path / "stack.tif"
    options = {
        "imagej": True,
        "resolution": (1 / 0.7, 1 / 0.9),
        "metadata": {"unit": "mm", "spacing": 2.5, "axes": "ZYX"},
    }
    tifffile.imwrite(path, frames[0], **options)
    [layer] = opened(path)
    np.testing.assert_array_equal(layer.data, frames[0])
    np.testing.assert_allclose(layer.scale, (2.5, 0.9, 0.7), rtol=1e-6)
    assert layer.name == "stack"
    tifffile.imwrite(path, np.zeros((6, 8, 3), np.uint8), photometric="rgb")
    assert contributions.get_reader(str(path)) is None
    path.write_bytes(b"II*\0")
    assert contributions.get_reader(str(path)) is None


@pytest.mark.slow
def test_a_layer_knows_which_part_of_its_file_it_shows(tmp_path, frames):
    """So that a job that was begun from it finds the same again; nothing of the file is in that."""
    for series, echo, z in np.ndindex(2, 2, 3):
        tags = {"SeriesInstanceUID": f"1.2.{series}", "EchoTime": 10.0 * (1 + echo), "Modality": "MR"}
        write_slice(tmp_path / f"{series}{echo}{z}.dcm", frames[echo, z] + series, CORNER + z * GAP * NORMAL, **tags)
    layers = opened(tmp_path)
    choices = [choice_of(layer, frame) for layer in layers for frame in (0, 1)]
    assert [sorted(choice) for choice in choices] == [["series", "time_index"]] * 4
    for layer, frame, choice in zip((layers[0], layers[0], layers[1], layers[1]), (0, 1, 0, 1), choices, strict=True):
        assert "1.2" not in choice["series"]
        assert source_of(layer) == tmp_path
        again = to_canonical(open_scan(tmp_path, **choice))
        np.testing.assert_array_equal(again.voxels, layer_to_scan(layer, frame).voxels)
