"""The network: its sizes, its shapes, and what folding may not change."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.network.bi_wkv_portable import re_wkv_portable
from napari_restore_rwkv.network.blocks import ChannelMix, OmniShift
from napari_restore_rwkv.network.model import RestoreRWKV


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_deployed_sizes_are_those_of_the_paper():
    assert parameters(RestoreRWKV.full().fused()) == pytest.approx(27.85e6, rel=1e-3)
    assert parameters(RestoreRWKV.light().fused()) == pytest.approx(1.16e6, rel=3e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (37, 50), (1, 64), (120, 9)])
def test_any_height_and_width_are_kept(tiny_network, shape):
    restored = tiny_network(torch.rand(2, 1, *shape))
    assert restored.shape == (2, 1, *shape)
    assert torch.isfinite(restored).all()


def test_a_new_network_is_the_identity():
    image = torch.rand(1, 1, 19, 24)
    assert torch.equal(RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1)(image), image)


def test_folding_changes_no_result_and_leaves_the_original_alone(tiny_network):
    image = torch.rand(1, 1, 40, 33)
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    fused = tiny_network.fused()
    torch.testing.assert_close(fused(image), tiny_network(image), rtol=0, atol=1e-6)
    assert not any(isinstance(module, OmniShift) for module in fused.modules())
    assert before.keys() == tiny_network.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in tiny_network.state_dict().items())


def test_omni_shift_is_the_weighted_sum_of_its_convolutions():
    shift = OmniShift(3)
    nn.init.normal_(shift.alpha)
    x = torch.rand(1, 3, 9, 8)
    a = shift.alpha
    expected = a[0] * x + a[1] * shift.conv1x1(x) + a[2] * shift.conv3x3(x) + a[3] * shift.conv5x5(x)
    torch.testing.assert_close(shift(x), expected)
    torch.testing.assert_close(shift.folded()(x), expected)


def test_the_compiled_and_the_portable_operator_give_one_network(tiny_network):
    portable = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1, operator=re_wkv_portable)
    portable.load_state_dict(tiny_network.state_dict())
    image = torch.rand(1, 1, 64, 48)
    torch.testing.assert_close(tiny_network(image), portable(image), rtol=0, atol=1e-6)


def test_every_parameter_gets_a_gradient(tiny_network):
    tiny_network(torch.rand(1, 1, 16, 16)).sum().backward()
    without = [name for name, p in tiny_network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_pixel_reaches_the_opposite_corner(tiny_network):
    image = torch.rand(1, 1, 64, 64)
    changed = image.clone()
    changed[..., 0, 0] += 1
    with torch.no_grad():
        assert (tiny_network(changed) - tiny_network(image))[..., 60:, 60:].abs().max() > 0


def test_stages_end_with_the_restored_image(tiny_network):
    image = torch.rand(1, 1, 24, 24)
    stages = list(tiny_network.stages(image))
    assert len(stages) == tiny_network.number_of_stages
    assert torch.equal(stages[-1], tiny_network(image))


@pytest.mark.parametrize("in_strips", [False, True])
def test_quarter_turns_are_averaged(tiny_network, in_strips):
    image = torch.rand(2, 1, 24, 17)
    with torch.no_grad():
        expected = sum(tiny_network(image.rot90(k, (2, 3))).rot90(-k, (2, 3)) for k in range(4)) / 4
        tiny_network.turns = 4
        *_, averaged = stages = list(tiny_network.stages(image, in_strips=in_strips))
    assert len(stages) == tiny_network.number_of_stages
    torch.testing.assert_close(averaged, expected)
    turned = tiny_network.fused()(image.rot90(1, (2, 3))).rot90(-1, (2, 3))
    torch.testing.assert_close(averaged, turned)


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize(("height", "width"), [(24, 17), (16, 40), (1, 3)])
def test_a_wrapped_border_continues_the_image_on_its_opposite_side(tiny_network, height, width, in_strips):
    image = torch.rand(2, 1, height, width)
    bottom, right = (3 + -(side + 6) % 8 for side in (height, width))
    periodic = np.pad(image, ((0, 0), (0, 0), (3, bottom), (3, right)), mode="wrap")
    with torch.no_grad():
        expected = tiny_network(torch.from_numpy(periodic))[:, :, 3 : 3 + height, 3 : 3 + width]
        tiny_network.wrapped_border = 3
        *_, restored = tiny_network.stages(image, in_strips=in_strips)
    torch.testing.assert_close(restored, expected)
    torch.testing.assert_close(tiny_network.fused()(image), expected)


@pytest.mark.parametrize(("device", "parts"), [("cpu", 4), ("meta", 1)])
def test_only_a_processor_works_on_the_hidden_layer_in_parts(device, parts):
    mixed = []

    class Watched(ChannelMix):
        def mix(self, shifted):
            mixed.append(shifted.shape)
            return super().mix(shifted)

    # A hidden layer of 4 MiB, of which a cache holds one.
    with torch.inference_mode():
        Watched(16).to(device)(torch.empty(1, 128, 128, 16, device=device))
    assert len(mixed) == parts
