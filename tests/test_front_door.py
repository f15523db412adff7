"""`restore` accepts arrays, tensors, scans and layers, and returns the same type."""

import dask.array as da
import numpy as np
import pytest
import torch
from napari.layers import Image, Labels

from napari_restore_rwkv import iter_restore, restore
from napari_restore_rwkv.errors import CheckpointError, DeviceError, ScanError
from napari_restore_rwkv.gui.layers import layer_to_scan, scan_to_layer
from napari_restore_rwkv.progress import finish


@pytest.fixture
def expected(small_scan, tiny_network):
    """The scan as restored by the core."""
    return np.asarray(finish(iter_restore(small_scan, tiny_network, axis="z")).voxels)


def test_a_numpy_array_is_returned_as_one(small_scan, tiny_network, expected):
    before = small_scan.voxels.copy()
    restored = restore(small_scan.voxels, tiny_network)
    assert type(restored) is np.ndarray
    assert restored.dtype == np.int16
    assert np.array_equal(restored, expected)
    assert np.array_equal(small_scan.voxels, before), "the input is left alone"


def test_a_single_slice_is_returned_as_one(small_scan, tiny_network, expected):
    assert np.array_equal(restore(small_scan.voxels[1], tiny_network), expected[1])


def test_a_tensor_is_returned_as_one(small_scan, tiny_network, expected):
    tensor = torch.from_numpy(small_scan.voxels.astype(np.float32)).requires_grad_()
    restored = restore(tensor, tiny_network, dtype=np.float32)
    assert restored.device == tensor.device
    assert restored.dtype == torch.float32
    assert not restored.requires_grad
    assert np.array_equal(restored.numpy().round(), expected)


def test_a_dask_array_is_read_by_slices_and_keeps_its_chunks(small_scan, tiny_network, expected):
    read = []

    def block(voxels):
        read.append(voxels.shape)
        return voxels

    given = da.from_array(small_scan.voxels, chunks=(1, 21, 26)).map_blocks(block, dtype=np.int16, meta=np.int16(0))
    restored = restore(given, tiny_network, indices=[1])
    assert isinstance(restored, da.Array)
    assert restored.chunks == given.chunks
    assert np.array_equal(restored[1].compute(), expected[1])
    assert np.array_equal(restored[0].compute(), small_scan.voxels[0])


def test_a_scan_is_returned_with_its_geometry_and_provenance(small_scan, tiny_network, expected):
    restored = restore(small_scan, tiny_network, axis="z")
    assert restored.spacing_mm == small_scan.spacing_mm
    assert restored.metadata["restoration"]["weights"] == "tiny"
    assert np.array_equal(restored.voxels, expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_an_image_layer_is_returned_in_its_position(small_scan, tiny_network, dimensions):
    data, attributes, _ = scan_to_layer(small_scan, "CT")
    if dimensions == 3:
        layer = Image(data, **attributes)
    else:
        layer = Image(data[1], name="CT", scale=(0.8, 0.7), translate=(3, 4), units=("mm", "mm"))
    restored = restore(layer, tiny_network)
    assert isinstance(restored, Image)
    assert restored.name == "CT [restored]"
    assert restored.data.shape == layer.data.shape
    np.testing.assert_allclose(restored.extent.world, layer.extent.world)
    scan = finish(iter_restore(layer_to_scan(layer), tiny_network))
    assert np.array_equal(restored.data, scan.voxels[0] if dimensions == 2 else scan.voxels)


def test_weights_may_be_a_task_a_file_or_a_network(small_scan, weights_file, tiny_network):
    assert np.array_equal(restore(small_scan.voxels, weights_file), restore(small_scan.voxels, tiny_network))
    assert restore(small_scan.voxels[0], "classical:ct-denoise").shape == (21, 26)


def test_unsuitable_input_is_refused_with_a_message(small_scan, tiny_network):
    with pytest.raises(ScanError, match="A list cannot be restored: give a NumPy, PyTorch or dask array"):
        restore([[1, 2], [3, 4]], tiny_network)
    with pytest.raises(ScanError, match=r"must have the shape \(Y, X\) or \(Z, Y, X\); got \(2, 3, 4, 5\)"):
        restore(np.zeros((2, 3, 4, 5)), tiny_network)
    with pytest.raises(ScanError, match="only an image layer can be restored"):
        restore(Labels(np.zeros((4, 4), int)), tiny_network)
    with pytest.raises(CheckpointError, match="no-such-task"):
        restore(small_scan.voxels, "no-such-task")
    with pytest.raises(DeviceError, match="no device 'cuda:9'"):
        restore(small_scan.voxels, tiny_network, device="cuda:9")
