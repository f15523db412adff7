"""The blocks in the compiled kernel against the plain modules, which define what is computed."""

import ctypes
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from napari_restore_rwkv.network import bi_wkv_cpu, fused_cpu
from napari_restore_rwkv.network.bi_wkv_portable import re_wkv_portable
from napari_restore_rwkv.network.blocks import Block, Downsample, Upsample
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, RestoreRWKV
from napari_restore_rwkv.network.strips import block_in_strips

SIZES = [(1, 1), (1, 40), (33, 1), (3, 5), (16, 64), (17, 65), (50, 37), (70, 130)]
CHANNELS = [16, 32, 48, 128]


def network(channels=16, blocks=(1, 1, 1, 1)):
    """A network whose parameters are all of a size at which they matter."""
    made = RestoreRWKV(channels, blocks, 1)
    for name, parameter in made.named_parameters():
        if "gamma" in name or name.startswith("output"):
            torch.nn.init.normal_(parameter, std=0.3)
    return made.fused()


def block(channels):
    made = Block(channels)
    for parameter in (made.gamma1, made.gamma2, made.ln1.bias, made.ln2.bias):
        torch.nn.init.normal_(parameter)
    made.att.omni_shift, made.ffn.omni_shift = made.att.omni_shift.folded(), made.ffn.omni_shift.folded()
    made.fused = True
    return made


def plain(monkeypatch, module, *inputs):
    with monkeypatch.context() as switched, torch.inference_mode():
        switched.setenv(fused_cpu.SWITCH, "0")
        return module(*inputs)


@pytest.fixture
def calls(monkeypatch):
    """What has been asked of the kernel."""
    seen = []
    run = fused_cpu._run
    monkeypatch.setattr(fused_cpu, "_run", lambda name, *rest: seen.append(name) or run(name, *rest))
    return seen


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_block_is_the_plain_block_at_odd_sizes(monkeypatch, calls, channels, height, width):
    module, x = block(channels), 3 * torch.randn(1, height, width, channels) + 1
    before = x.clone()
    with torch.inference_mode():
        got = module(x)
    assert calls == ["restore_block"]
    assert torch.equal(x, before)
    assert_close(got, plain(monkeypatch, module, x), rtol=1e-5, atol=1e-5)


def test_each_image_of_a_batch_is_restored_as_if_alone():
    module, x = network(), torch.rand(3, 1, 40, 24)
    with torch.inference_mode():
        assert torch.equal(module(x), torch.cat([module(image[None]) for image in x]))


@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("size", [(8, 8), (61, 77), (7, 130)])
def test_a_network_is_the_plain_network(monkeypatch, calls, channels, size):
    module, image = network(channels), torch.rand(2, 1, *size)
    with torch.inference_mode():
        got = module(image)
    assert {"restore_block", "restore_product", "restore_plain_product"} == set(calls)
    assert_close(got, plain(monkeypatch, module, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("given", [0, CONTEXT_CHANNELS])
@pytest.mark.parametrize("context", [0, CONTEXT_CHANNELS])
def test_the_first_maps_are_the_plain_ones(monkeypatch, calls, context, given):
    module, image = RestoreRWKV(16, (1, 1, 1, 1), 1, context=context), torch.randn(2, 1 + given, 9, 21)
    if context:
        torch.nn.init.normal_(module.context_embed.weight)
    module = module.fused()
    with torch.inference_mode():
        got = module._embedded(image)
    assert calls == ["restore_plain_product"] * 2
    assert_close(got, plain(monkeypatch, module._embedded, image), rtol=1e-5, atol=1e-5)


def test_a_library_of_earlier_sources_leaves_the_first_maps_to_the_plain_modules(monkeypatch, calls):
    module, image = network(), torch.rand(1, 1, 9, 21)
    earlier = SimpleNamespace(restore_block=None, restore_product=None)
    with torch.inference_mode(), monkeypatch.context() as switched:
        switched.setattr(bi_wkv_cpu, "library", lambda: earlier)
        got = module._embedded(image)
    assert calls == []
    assert torch.equal(got, plain(monkeypatch, module._embedded, image))


def test_changed_weights_of_the_context_are_seen():
    module, image = RestoreRWKV(16, (1, 1, 1, 1), 1, context=CONTEXT_CHANNELS).fused(), torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        before = module._embedded(image)
    module.context_embed.weight.data = torch.ones_like(module.context_embed.weight)
    with torch.inference_mode():
        assert not torch.allclose(module._embedded(image), before)


@pytest.mark.parametrize(("kind", "channels"), [(Downsample, 16), (Downsample, 48), (Upsample, 32), (Upsample, 96)])
def test_a_change_of_resolution_is_the_plain_one(monkeypatch, calls, kind, channels):
    module, x = kind(channels), torch.randn(2, 6, 10, channels)
    module.fused = True
    with torch.inference_mode():
        got = module(x)
    assert calls
    assert_close(got, plain(monkeypatch, module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
def test_every_instruction_set_of_this_processor_gives_the_same(monkeypatch, instructions):
    module, image = network(), torch.rand(1, 1, 50, 70)
    expected = plain(monkeypatch, module, image)
    monkeypatch.setenv("BI_WKV_INSTRUCTION_SET", instructions)
    if bi_wkv_cpu.instruction_set() != instructions:
        pytest.skip(f"this processor has no {instructions}")
    with torch.inference_mode():
        assert_close(module(image), expected, rtol=0, atol=1e-5)


def test_the_number_of_threads_does_not_change_a_bit():
    module, image = network(), torch.rand(1, 1, 136, 200)
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                # The last convolution is PyTorch's.
                x = torch.ones(1, 136, 200, 16) * image[0, 0, :, :, None] + torch.arange(16)
                results.append(module.encoder_level1[0](x))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(other, results[0]) for other in results[1:])


@pytest.mark.slow
def test_several_threads_may_use_one_network_at_once():
    module, images = network(), torch.rand(4, 1, 1, 72, 80)
    with torch.inference_mode():
        expected = [module(image) for image in images]
    got = [None] * len(images)

    def run(number):
        torch.set_num_threads(2)
        for _ in range(5):
            with torch.inference_mode():
                got[number] = module(images[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(got, expected, strict=True))


def test_unwritten_memory_is_never_read(monkeypatch):
    module, x = block(32), torch.randn(1, 19, 67, 32)
    with torch.inference_mode():
        expected = module(x)
        empty_like = torch.empty_like
        monkeypatch.setattr(torch, "empty_like", lambda x, **options: empty_like(x, **options).fill_(torch.nan))
        assert torch.equal(module(x), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.att.key.weight.data.mul_(1e3),
        lambda module: module.att.value.weight.data.mul_(1e9),
        lambda module: module.att.spatial_decay.data.fill_(-40),
        lambda module: module.att.spatial_first.data.fill_(1e5),
    ],
    ids=["keys", "values", "decay", "bonus"],
)
def test_numbers_too_large_for_plain_sums_are_left_to_the_plain_block(monkeypatch, change):
    module, x = block(16), torch.randn(1, 12, 20, 16)
    change(module)
    with torch.inference_mode():
        assert fused_cpu.block(module, x) is None
        assert torch.isfinite(module(x)).all()
        assert torch.equal(module(x), plain(monkeypatch, module, x))


def test_nan_is_left_to_the_plain_block():
    module, x = block(16), torch.randn(1, 12, 20, 16)
    x[0, 3, 3, 3] = torch.nan
    with torch.inference_mode():
        assert fused_cpu.block(module, x) is None


def test_changed_weights_are_seen():
    module, x = block(16), torch.randn(1, 8, 8, 16)
    with torch.inference_mode():
        before = module(x)
    module.load_state_dict(block(16).state_dict())
    with torch.inference_mode():
        assert not torch.allclose(module(x), before)


def test_another_operator_a_gradient_or_another_type_is_left_to_the_plain_block():
    x = torch.randn(1, 8, 8, 16)
    with torch.inference_mode():
        assert fused_cpu.block(Block(16, re_wkv_portable), x) is None
        assert fused_cpu.block(block(16), x.double()) is None
        assert fused_cpu.block(block(16), x.bfloat16()) is None
        assert fused_cpu.block(block(16), x.transpose(1, 2).contiguous().transpose(1, 2)) is None
        assert fused_cpu.block(Block(24), torch.randn(1, 8, 8, 24)) is None
    assert fused_cpu.block(block(16), x) is None


def test_a_network_that_is_not_fused_never_asks_the_kernel(calls):
    with torch.inference_mode():
        RestoreRWKV(16, (1, 1, 1, 1), 1)(torch.rand(1, 1, 16, 16))
    assert calls == []


def test_strips_are_the_same_bits():
    module, x = block(16), torch.randn(1, 40, 30, 16)
    with torch.inference_mode():
        assert torch.equal(block_in_strips(module, x), module(x))


def test_a_shortage_of_memory_is_a_memory_error(monkeypatch):
    class Short:
        @staticmethod
        def restore_block(*_):
            return 1

    monkeypatch.setattr(fused_cpu, "_states", lambda *_: 1)
    monkeypatch.setattr(bi_wkv_cpu, "library", Short)
    with torch.inference_mode(), pytest.raises(MemoryError, match="use smaller slices"):
        fused_cpu.block(block(16), torch.randn(1, 8, 8, 16))


def test_the_structures_are_those_of_the_kernel():
    # Sizes and pointers are 8 bytes each, and the two epsilons share 8.
    assert ctypes.sizeof(fused_cpu._Block) == 8 * (4 + 5 + 13 + 1)
    assert ctypes.sizeof(fused_cpu._Product) == 8 * (1 + 2 + 2 + 5 + 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
def test_a_forked_process_has_its_own_threads():
    code = (
        "import os, torch\n"
        "from napari_restore_rwkv.network.bi_wkv import bi_wkv\n"
        "torch.set_num_threads(2)\n"
        "w = torch.randn(64) / 4096\n"
        "k, v = torch.randn(2, 1, 4096, 64)\n"
        "y = bi_wkv(w, w, k, v)\n"
        "child = os.fork()\n"
        "if child == 0: os._exit(0 if torch.equal(bi_wkv(w, w, k, v), y) else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=240)
    assert answer.stdout.strip() == "0"
