"""What only a GPU can show: results, graphs, memory. The same logic is tested everywhere with `fake_machine`."""

import numpy as np
import pytest
import torch

from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.network.bi_wkv import kernel_in_use
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.memory_estimate import bytes_per_slice
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.restoration.verification import check_inference, run_images
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import Scan

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]

# A float32 product of matrices may add up in another order for another number of rows.
SAME_HU = 0.05


@pytest.fixture
def device():
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def network():
    return load_checkpoint("ct-denoise")


@pytest.fixture
def scan():
    return read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz"))


@pytest.fixture
def memory_of(device):
    """Limit this process to some bytes beyond those it holds now, until the end of the test."""

    def limit(bytes_more):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + bytes_more) / total, device)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0, device)


def test_all_inference_modes_agree_and_free_their_memory(network, scan, device):
    found = check_inference(network, scan, device)
    runs = found["runs"]
    assert runs["together"]["difference"]["largest"] < SAME_HU
    assert runs["recorded"]["difference"]["largest"] < SAME_HU
    assert runs["together"]["report"]["slices_at_once"] > 1
    if kernel_in_use(device).name.startswith("compiled"):
        assert runs["recorded"]["report"]["cuda_graph"] == {"replays": 2, "why_not": ""}
    assert 0 < runs["recorded, bfloat16"]["difference"]["rms"] < 0.6
    assert 0 < runs["recorded, float16"]["difference"]["rms"] < 0.1
    # cuBLAS keeps one work space, of 32 MiB at most, for the stream that all these jobs have used.
    assert found["bytes_left"] <= 64 << 20


def test_the_gpu_restores_what_the_processor_restores(network, scan, device):
    rule, image = choose_intensity(scan), scan.voxels[10]
    expected = restore_slice(image, network, rule)
    np.testing.assert_allclose(restore_slice(image, network, rule, device=device), expected, atol=SAME_HU)


def test_a_whole_scan_and_its_single_slices_are_the_same(network, scan, device):
    rule = choose_intensity(scan)
    restored = finish(iter_restore(scan, network, device=device, dtype=np.float32))
    assert restored.metadata["restoration"]["execution"]["slices_at_once"] > 1
    for z in (0, 7, 19):
        np.testing.assert_allclose(restored.voxels[z], restore_slice(scan.voxels[z], network, rule), atol=SAME_HU)


def test_the_memory_estimate_covers_what_a_slice_takes(device):
    network = RestoreRWKV.light().fused().to(device)
    image = torch.rand(1, 1, 512, 512, device=device)
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.inference_mode():
            network(image)
    taken = torch.cuda.max_memory_allocated(device) - before
    assert 0.7 < taken / bytes_per_slice(network, 512, 512) < 1.2


def test_too_little_memory_for_a_batch_means_smaller_batches_with_the_same_result(network, scan, device, memory_of):
    images = [choose_intensity(scan).to_network(image) for image in scan.voxels[:12]]
    network.to(device)
    expected, _, _ = run_images(network, images, device, most=1, record=False)
    # The free memory of the GPU is not what this process may take, so the first batches are too large.
    memory_of(int(2.5 * bytes_per_slice(network, 512, 512)))
    results, _, report = run_images(network, images, device, most=8)
    np.testing.assert_allclose(results, expected, atol=1e-4)
    assert report["slices_at_once"] < 8
    assert report["notes"]


def test_too_little_memory_for_a_slice_means_strips_with_the_same_result(device, memory_of):
    network = RestoreRWKV(channels=32, blocks=(1, 1, 1, 1), refinement=1)
    torch.nn.init.normal_(network.output.weight, std=0.01)
    network = network.fused().to(device)
    images = [torch.rand(1024, 1024).numpy()]
    expected, _, _ = run_images(network, images, device)
    whole, strips = (bytes_per_slice(network, 1024, 1024, in_strips=strips) for strips in (False, True))
    memory_of((whole + strips) // 2)
    results, _, report = run_images(network, images, device)
    assert report["in_strips"]
    np.testing.assert_allclose(results, expected, atol=1e-4)


def test_no_memory_at_all_is_one_sentence_and_all_memory_is_freed(network, device, memory_of):
    network.to(device)
    scan = Scan(np.zeros((2, 1024, 1024), np.float32), modality="CT")
    memory_of(64 << 20)
    held = torch.cuda.memory_reserved(device)
    with pytest.raises(DeviceError, match="even in strips of rows; close other programs"):
        finish(iter_restore(scan, network, device=device))
    assert torch.cuda.memory_reserved(device) <= held + (64 << 20)


def test_cancelling_frees_the_memory(network, scan, device):
    network.to(device)
    finish(iter_restore(scan, network, indices=[0], device=device))
    held = torch.cuda.memory_reserved(device)
    steps = iter_restore(scan, network, device=device)
    while next(steps).done < 9:
        pass
    assert torch.cuda.memory_reserved(device) > held
    steps.close()
    assert torch.cuda.memory_reserved(device) <= held + (64 << 20)
