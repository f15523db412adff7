import torch

from napari_restore_rwkv.network.bundles import merged
from napari_restore_rwkv.training.adapters import AdaptedLinear, adapters_in, add_adapters, without_adapters


def adapted(network, rank=4):
    add_adapters(network, rank, seed=1)
    return network


def test_new_adapters_change_nothing(tiny_network):
    image = torch.rand(1, 1, 16, 16)
    before = tiny_network(image)
    assert torch.equal(adapted(tiny_network)(image), before)


def test_only_adapters_learn(tiny_network):
    network = adapted(tiny_network)
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learned
    assert all(name.endswith((".up", ".down")) for name in learned)
    network(torch.rand(1, 1, 16, 16)).mean().backward()
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name not in learned)


def test_merged_adapters_are_exactly_what_was_trained_with(tiny_network):
    from copy import deepcopy

    plain = deepcopy(tiny_network)
    network = adapted(tiny_network)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    state = network.state_dict()
    assert without_adapters(state).keys() == plain.state_dict().keys()
    plain.load_state_dict(merged(without_adapters(state), adapters_in(state)))
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(plain(image), network(image))


def test_a_rank_is_never_larger_than_its_layer(tiny_network):
    network = adapted(tiny_network, rank=64)
    layers = [module for module in network.modules() if isinstance(module, AdaptedLinear)]
    assert layers
    assert all(layer.down.shape[0] == min(64, *layer.weight.shape) for layer in layers)
