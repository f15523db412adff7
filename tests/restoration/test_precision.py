"""Lower precision only on request, with its error reported."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.errors import CheckpointError, DeviceError
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.precision import converted, deviation, exact_float32
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path

SHORT = ["bfloat16", "float16"]


@pytest.mark.parametrize("precision", SHORT)
def test_the_input_is_added_in_full_precision(precision):
    # A new network changes nothing, so any rounding of the image would show.
    network = converted(RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1), precision)
    image = torch.rand(2, 1, 19, 24)
    assert torch.equal(network(image), image)


@pytest.mark.parametrize("precision", SHORT)
def test_weights_and_maps_are_float16_and_the_original_is_unchanged(tiny_network, precision):
    dtype = getattr(torch, precision)
    network = converted(tiny_network, precision)
    assert {result.dtype for result in list(network.stages(torch.rand(1, 1, 16, 16)))[:-1]} == {dtype}
    exact = {name for name, parameter in network.named_parameters() if parameter.dtype != dtype}
    assert {name.split(".")[-1] for name in exact if "patch_embed" not in name} == {"spatial_decay", "spatial_first"}
    assert {parameter.dtype for parameter in tiny_network.parameters()} == {torch.float32}


def test_the_decay_of_a_large_slice_would_lose_its_digits_in_float16():
    decay = torch.tensor([0.1, 0.37, 1.0])
    tokens = 512 * 512
    rounded = (decay.half() / tokens).float() * tokens
    assert ((rounded / decay - 1).abs() > 0.01).any()


def test_float32_is_the_network_itself(tiny_network):
    assert converted(tiny_network, "float32") is tiny_network


def test_float32_of_a_network_that_is_shorter_is_computed_in_float32(tiny_network):
    longer = converted(copy.deepcopy(tiny_network).bfloat16(), "float32")
    assert {parameter.dtype for parameter in longer.parameters()} == {torch.float32}


def test_any_network_can_be_converted(small_scan):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(1.001))

        def forward(self, x):
            assert x.dtype == self.factor.dtype
            return x * self.factor

    rule = choose_intensity(small_scan)
    exact = restore_slice(small_scan.voxels[0], Scaled(), rule)
    short = restore_slice(small_scan.voxels[0], Scaled(), rule, precision="bfloat16")
    assert 0 < np.abs(short - exact).max() < 20


@pytest.mark.parametrize("precision", SHORT)
def test_the_error_is_measured_on_the_first_slice_and_kept_in_the_provenance(small_scan, tiny_network, precision):
    with torch.no_grad():
        tiny_network.output.weight.mul_(20)
    restored = finish(iter_restore(small_scan, tiny_network, precision=precision, first=2, dtype=np.float32))
    exact = finish(iter_restore(small_scan, tiny_network, dtype=np.float32))
    record = restored.metadata["restoration"]
    difference = np.abs(restored.voxels[2] - exact.voxels[2])
    assert record["precision"] == precision
    assert record["precision_error"]["slice"] == 2
    assert record["precision_error"]["unit"] == "HU"
    assert record["precision_error"]["largest"] == pytest.approx(difference.max())
    assert record["precision_error"]["rms"] == pytest.approx(np.sqrt(np.square(difference).mean()), rel=1e-3)
    assert difference.max() > 0
    assert exact.metadata["restoration"]["precision"] == "float32"
    assert "precision_error" not in exact.metadata["restoration"]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "largest", "rms"), [("bfloat16", 5, 0.8), ("float16", 0.6, 0.15)])
def test_a_real_scan_loses_no_more_than_is_documented(precision, largest, rms):
    scan = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz"))
    image, rule, network = scan.voxels[10, 100:356, 100:356], choose_intensity(scan), load_checkpoint("ct-denoise")
    lost = deviation(
        restore_slice(image, network, rule, precision=precision), restore_slice(image, network, rule), rule.unit
    )
    assert 0 < lost["largest"] < largest
    assert 0 < lost["rms"] < rms


def test_if_float32_does_not_fit_the_error_is_unknown_and_the_scan_restored(small_scan, tiny_network, monkeypatch):
    class OnlyShort(RestoreRWKV):
        def stages(self, image, *, in_strips=False):
            yield from super().stages(image, in_strips=in_strips)
            if self.output.weight.dtype == torch.float32:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    network = OnlyShort(channels=4, blocks=(1, 1, 1, 1), refinement=1).eval()
    record = finish(iter_restore(small_scan, network, precision="bfloat16")).metadata["restoration"]
    assert record["slices"] == 3
    assert record["precision_error"]["unknown"].startswith("There is not enough memory on cpu for a slice of 21 x 26")


def test_the_slice_on_screen_can_change_while_the_error_is_measured(small_scan, tiny_network):
    steps, order, sent = iter_restore(small_scan, tiny_network, precision="bfloat16", first=0), [], None
    while len(order) < 3:
        progress = steps.send(sent)
        sent = 2 if progress.phase is Phase.COMPARING_PRECISION and not sent else None
        if progress.region:
            order.append(progress.region[0].start)
    assert order == [0, 2, 1]


def test_numbers_too_large_for_float16_are_refused_with_a_remedy(small_scan, tiny_network):
    with torch.no_grad():
        tiny_network.refinement[0].ffn.key.weight.mul_(1e4)
    with pytest.raises(CheckpointError, match="float16 may be too narrow for these weights: use float32"):
        finish(iter_restore(small_scan, tiny_network, precision="float16"))
    finish(iter_restore(small_scan, tiny_network))


def test_another_precision_is_refused(small_scan, tiny_network):
    with pytest.raises(DeviceError, match="must be float32, bfloat16, float16; got 'float8'"):
        next(iter_restore(small_scan, tiny_network, precision="float8"))


def test_values_that_are_not_finite_in_either_result_do_not_count():
    exact = np.array([0.0, 0.0, np.nan, np.inf])
    assert deviation(np.array([3.0, 1.0, np.nan, np.inf]), exact, "HU") == {
        "largest": 3.0,
        "rms": pytest.approx(np.sqrt(10 / 4)),
        "unit": "HU",
    }


def settings():
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


@pytest.fixture
def restored_settings():
    before = torch.get_float32_matmul_precision(), settings()
    yield
    torch.set_float32_matmul_precision(before[0])
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before[1]


@pytest.mark.usefixtures("restored_settings")
@pytest.mark.parametrize("allowed", ["highest", "high", "convolutions only"])
def test_a_gpu_computes_exact_float32_and_settings_are_restored_afterwards(allowed):
    if allowed == "convolutions only":
        torch.backends.cudnn.rnn.fp32_precision = "ieee"
    else:
        torch.set_float32_matmul_precision(allowed)
    before = settings()
    assert "tf32" in before, "PyTorch allows it by default"
    with contextlib.suppress(KeyError), exact_float32():
        assert settings() == ("ieee", "ieee", "ieee")
        raise KeyError
    assert settings() == before


def test_the_older_name_of_the_setting_can_be_read_at_the_same_time():
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_the_older_settings_of_pytorch_work_as_well(monkeypatch):
    class Older:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends, "cudnn", Older())
    monkeypatch.setattr(torch.backends.cuda, "matmul", Older())
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
