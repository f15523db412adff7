"""Zarr folders are read as they are, in place, and only where something was asked for."""

import json

import numpy as np
import pytest
import zarr
from zarrs import Reads, change_attributes, noise, ome

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.frames import opening_all
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.volume.files import SeveralFramesError
from napari_restore_rwkv.scans.zarr.reading import read_zarr


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_gives_voxels_spacing_and_origin_in_mm(tmp_path, version):
    voxels = noise((5, 8, 9))
    path = ome(
        tmp_path / "a.ome.zarr",
        voxels,
        "zyx",
        version,
        units=["millimeter", "micrometer", "centimeter"],
        scale=[2.5, 700.0, 0.08],
        translation=[10.0, -3000.0, 1.5],
    )
    scan = open_scan(path)
    assert np.array_equal(scan.voxels, voxels)
    assert scan.voxels.dtype == np.int16
    assert scan.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    # x, y, z, as a Scan has it.
    assert scan.origin_mm == pytest.approx((15.0, -3.0, 10.0))
    assert scan.metadata["source"] == "a.ome.zarr"


def test_a_scale_of_the_whole_image_is_applied_to_the_translation_too(tmp_path):
    path = ome(tmp_path / "a.zarr", noise((3, 4, 5)), "zyx", scale=[1, 2, 3], translation=[4, 5, 6])

    def whole(attributes):
        [image] = attributes["ome"]["multiscales"]
        image["coordinateTransformations"] = [{"type": "scale", "scale": [2, 2, 2]}]
        return attributes

    change_attributes(path, whole)
    scan = open_scan(path)
    assert (scan.spacing_mm, scan.origin_mm) == ((2, 4, 6), (12, 10, 8))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_plain_array_and_a_group_with_one_are_scans(tmp_path, zarr_format, grouped):
    voxels = noise((4, 6, 7)).astype(">i2" if zarr_format == 2 else "<i2")
    place = tmp_path / "plain.zarr"
    path = place / "only" if grouped else place
    if grouped:
        zarr.open_group(place, mode="w", zarr_format=zarr_format)
    zarr.create_array(path, data=voxels, zarr_format=zarr_format, chunks=(2, 6, 7))
    scan = open_scan(place)
    assert np.array_equal(scan.voxels, voxels)
    assert scan.voxels[0].dtype == scan.voxels.dtype == np.dtype(np.int16)
    assert scan.spacing_mm == (1, 1, 1)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("names", ["xyz", "YXZ"])
def test_a_plain_array_may_name_its_axes(tmp_path, rng, zarr_format, names):
    voxels = rng.random((3, 4, 5), np.float32)
    turned = voxels.transpose(["zyx".index(name) for name in names.lower()])
    by_format = {"dimension_names": list(names)} if zarr_format == 3 else {}
    array = zarr.create_array(tmp_path / "a", shape=turned.shape, dtype="f4", zarr_format=zarr_format, **by_format)
    array[:] = turned
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = list(names)
    np.testing.assert_array_equal(read_scan(tmp_path / "a").voxels, voxels)


def test_an_axis_of_time_is_not_taken_for_slices(tmp_path):
    array = zarr.create_array(tmp_path / "a", shape=(3, 4, 5), dtype="f4", dimension_names=["time", "y", "x"])
    array[:] = 1
    with pytest.raises(SeveralFramesError, match="contains 3 values along time"):
        read_scan(tmp_path / "a")


def test_axes_in_another_order_are_turned(tmp_path):
    voxels = noise((4, 5, 6))
    path = ome(tmp_path / "xyz.zarr", voxels.transpose(2, 1, 0), "xyz", scale=[1, 2, 3])
    scan = open_scan(path)
    assert scan.spacing_mm == (3, 2, 1)
    assert np.array_equal(scan.voxels, voxels)
    assert np.array_equal(scan.voxels[1:3, 2, ::-2], voxels[1:3, 2, ::-2])


def test_an_image_without_z_is_a_scan_of_one_slice(tmp_path):
    voxels = noise((5, 6))
    scan = open_scan(ome(tmp_path / "yx.zarr", voxels, "yx"))
    assert scan.shape == (1, 5, 6)
    assert np.array_equal(scan.voxels[0], voxels)


@pytest.mark.parametrize("axes", ["tczyx", "ctzyx"])
def test_a_time_point_and_a_channel_are_chosen(tmp_path, axes):
    voxels = noise((2, 3, 4, 5, 6))
    shown = voxels if axes == "tczyx" else voxels.swapaxes(0, 1)
    scan = open_scan(ome(tmp_path / "five.zarr", shown, axes), time_index=1, channel=2)
    assert np.array_equal(scan.voxels, voxels[1, 2])


def test_an_array_with_several_frames_asks_for_one(tmp_path):
    path = ome(tmp_path / "five.zarr", noise((2, 3, 4, 5, 6)), "tczyx")
    with pytest.raises(SeveralFramesError, match="contains 2 time points; choose one by its time index, from 0 to 1"):
        open_scan(path)
    with pytest.raises(SeveralFramesError, match="contains 3 channels; choose one by its channel, from 0 to 2"):
        open_scan(path, time_index=0)
    with pytest.raises(ScanError, match="contains 3 channels, numbered from 0 to 2; there is no number 7"):
        open_scan(path, time_index=0, channel=7)


def test_a_slice_reads_its_own_chunks_and_nothing_is_read_before(tmp_path, monkeypatch):
    path = ome(tmp_path / "a.zarr", noise((12, 16, 16)), "zyx", chunks=(2, 8, 16))
    reads = Reads(monkeypatch)
    scan = open_scan(path, modality="CT")
    assert reads.keys == []
    np.asarray(scan.voxels[7])
    assert sorted(reads.keys) == ["full/c/3/0/0", "full/c/3/1/0"]


def test_read_scan_has_the_voxels_in_memory(tmp_path):
    voxels = noise((3, 4, 5))
    scan = read_scan(ome(tmp_path / "a.zarr", voxels, "zyx"), modality="CT")
    assert isinstance(scan.voxels, np.ndarray)
    assert np.array_equal(scan.voxels, voxels)
    assert (scan.modality, scan.unit) == ("CT", "HU")


def several_arrays(path):
    group = zarr.open_group(path, mode="w")
    for name in ("one", "two"):
        group.create_array(name, data=noise((2, 3, 4)))


def complex_values(path):
    zarr.create_array(path, data=np.ones((2, 3, 4), np.complex64))


def six_dimensions(path):
    zarr.create_array(path, data=np.ones((1, 1, 1, 1, 3, 4)))


def cut_metadata(path):
    ome(path, noise((2, 3, 4)), "zyx")
    (path / "zarr.json").write_text('{"zarr_format": 3, "node')


def missing_array(path):
    ome(path, noise((2, 3, 4)), "zyx")
    (path / "full" / "zarr.json").unlink()


def unknown_unit(path):
    ome(path, noise((2, 3, 4)), "zyx", units=["parsec", "millimeter", "millimeter"])


def flat_voxels(path):
    ome(path, noise((2, 3, 4)), "zyx", scale=[0, 1, 1])


def a_plate(path):
    zarr.open_group(path, mode="w", attributes={"ome": {"version": "0.5", "plate": {"wells": []}}})


def other_axes(path):
    ome(path, noise((2, 3, 4)), ["q", "y", "z"])


def unfinished(path):
    ome(path, noise((2, 3, 4)), "zyx")
    change_attributes(path, lambda attributes: attributes | {"restore_rwkv": {"complete": False}})


def sheared(path):
    ome(path, noise((2, 3, 4)), "zyx")
    ours = {"direction": [[1, 1, 0], [0, 1, 0], [0, 0, 1]], "spacing_mm": [1, 1, 1], "origin_mm": [0, 0, 0]}
    change_attributes(path, lambda attributes: attributes | {"restore_rwkv": ours})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (several_arrays, r"contains 2 arrays \(one, two\); give the folder of one array, or an OME-Zarr image"),
        (complex_values, "contains complex64 values; give an array of real numbers"),
        (six_dimensions, "has 6 dimensions; give an array with two to five"),
        (cut_metadata, "cannot be read: its metadata are missing or damaged; copy or export it again"),
        (missing_array, "cannot be read: its array full is missing or damaged"),
        (unknown_unit, "gives z in parsec, an unknown unit; use one of meter"),
        (flat_voxels, "has no usable geometry: its voxel size is 0 x 1 x 1 mm"),
        (a_plate, r"contains several images \(a plate or a collection\); give one of them"),
        (other_axes, "has the axes q, y, z; an image needs y and x at least|choose one by its channel"),
        (unfinished, "is an unfinished restoration; finish it first with the same restore command and --resume"),
        (sheared, "has a sheared voxel grid"),
    ],
)
def test_an_unreadable_array_is_refused_in_a_sentence(tmp_path, make, words):
    path = tmp_path / "broken.zarr"
    make(path)
    with pytest.raises(ScanError, match=words) as caught:
        open_scan(path)
    assert "broken.zarr" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_damaged_chunk_is_named_by_its_slices(tmp_path):
    path = ome(tmp_path / "a.zarr", noise((4, 16, 16)), "zyx", chunks=(2, 16, 16))
    chunk = path / "full" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    scan = read_zarr(path)
    assert np.asarray(scan.voxels[1]).shape == (16, 16)
    with pytest.raises(ScanError, match="voxels of z 3 to 3, y 0 to 15, x 0 to 15 are damaged or missing"):
        np.asarray(scan.voxels[3])


def test_attributes_of_other_programs_are_ignored(tmp_path):
    path = ome(tmp_path / "a.zarr", noise((2, 3, 4)), "zyx")
    change_attributes(path, lambda attributes: attributes | {"PatientName": "Doe"})
    assert "Doe" not in json.dumps(dict(open_scan(path).metadata))


def collection(path, count, version="0.5"):
    """As bioformats2raw writes: a group that says so, and images named by numbers in it."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    says = {"bioformats2raw.layout": 3}
    group.attrs.update({"ome": {"version": version, **says}} if version == "0.5" else says)
    images = [noise((2, 3, 4), seed=number) for number in range(count)]
    for number, voxels in enumerate(images):
        ome(path / str(number), voxels, "zyx", version=version, scale=[2.0, 0.5, 0.5])
    return images


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_only_image_of_a_collection_is_read(tmp_path, version):
    [voxels] = collection(tmp_path / "scan.zarr", 1, version)
    scan = open_scan(tmp_path / "scan.zarr")
    np.testing.assert_array_equal(np.asarray(scan.voxels), voxels)
    assert scan.spacing_mm == (2.0, 0.5, 0.5)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_several_images_of_a_collection_are_a_choice_and_all_can_be_opened(tmp_path, version):
    images = collection(tmp_path / "scan.zarr", 11, version)
    with pytest.raises(ScanError, match=r"scan\.zarr contains 11 images \(0, 1, 2, .*, 9, \.\.\.\); give one of them"):
        open_scan(tmp_path / "scan.zarr")
    found = finish(opening_all(tmp_path / "scan.zarr"))
    assert [frames.title for frames in found] == [str(number) for number in range(11)]
    np.testing.assert_array_equal(np.asarray(found[10].scans[0].voxels), images[10])


def test_a_collection_without_images_is_refused(tmp_path):
    collection(tmp_path / "scan.zarr", 0)
    with pytest.raises(ScanError, match=r"scan\.zarr is a collection without any images"):
        open_scan(tmp_path / "scan.zarr")
