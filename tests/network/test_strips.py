"""A block in strips of rows is the block: to the bit where the products of matrices are."""

import pytest
import torch

from napari_restore_rwkv.network import strips
from napari_restore_rwkv.network.bi_wkv import re_wkv
from napari_restore_rwkv.network.blocks import Block
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.network.strips import block_in_strips


def products_depend_on_the_number_of_rows():
    """Whether this processor's library rounds a product of matrices by how many rows it has, as some do."""
    with torch.inference_mode():
        for channels in (6, 8, 16, 32, 64):
            weight, x = torch.randn(4 * channels, channels), torch.randn(117, channels)
            whole = torch.nn.functional.linear(x, weight)
            parts = [torch.nn.functional.linear(x[i : i + n], weight) for i, n in ((0, 9), (9, 18), (27, 90))]
            if not torch.equal(torch.cat(parts), whole):
                return True
    return False


# Nothing but such rounding may differ.
TOLERANCE = 2e-6 if products_depend_on_the_number_of_rows() else 0.0


def same(found, expected):
    return float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


def last(results):
    for result in results:
        kept = result
    return kept


@pytest.fixture(params=[1, 2, 3, 5, 1000])
def rows(request, monkeypatch):
    """Strips with a number of rows of a map of 2 x 13 x 9 x 6 values."""
    monkeypatch.setattr(strips, "HIDDEN_VALUES_OF_A_STRIP", request.param * 2 * 9 * 4 * 6)
    return request.param


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("height", [1, 2, 13])
def test_a_block_in_strips_is_the_block(height):
    block, x = Block(6), torch.randn(2, height, 9, 6)
    with torch.inference_mode():
        assert same(block_in_strips(block, x), block(x))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 64, 48), (2, 1, 37, 50), (1, 1, 8, 200)])
def test_the_network_in_strips_is_the_network(tiny_network, monkeypatch, fused, shape):
    monkeypatch.setattr(strips, "HIDDEN_VALUES_OF_A_STRIP", 1 << 12)
    network, image = tiny_network.fused() if fused else tiny_network, torch.rand(shape)
    with torch.inference_mode():
        whole = network(image)
        assert same(last(network.stages(image, in_strips=True)), whole)
        assert not torch.equal(whole, image)


@pytest.mark.slow
def test_the_width_of_the_shipped_network_is_the_same():
    network = RestoreRWKV.light()
    torch.nn.init.normal_(network.output.weight, std=0.01)
    network, image = network.fused(), torch.rand(1, 1, 200, 264)
    with torch.inference_mode():
        assert same(last(network.stages(image, in_strips=True)), network(image))


def test_strips_leave_the_input_alone():
    block, x = Block(4), torch.randn(1, 20, 8, 4)
    before = x.clone()
    with torch.inference_mode():
        block_in_strips(block, x)
    assert torch.equal(x, before)


def test_the_attention_sees_the_whole_slice(monkeypatch):
    monkeypatch.setattr(strips, "HIDDEN_VALUES_OF_A_STRIP", 1)
    seen = []

    def operator(*inputs):
        seen.append([tensor.shape for tensor in inputs[2:4]])
        return re_wkv(*inputs)

    with torch.inference_mode():
        block_in_strips(Block(4, operator), torch.randn(1, 6, 8, 4))
    assert seen == [[(1, 48, 4), (1, 48, 4)]]
