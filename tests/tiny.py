"""The smallest network that changes its input, and its weights file: the same ones in every test."""

SEED = 20240711


def new_network():
    """A CT network of the smallest sizes, not fused, drawn from torch's random state."""
    import torch

    from napari_restore_rwkv.network.checkpoint import Card
    from napari_restore_rwkv.network.model import RestoreRWKV

    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1).eval()
    with torch.no_grad():
        # A new network is the identity.
        network.output.weight.normal_(0, 0.01)
    network.card = Card(title="tiny", task="ct-denoise", modality="CT", created="2026-01-01")
    return network


def write_weights(network, folder):
    """Save a network with its card in a folder; return the file."""
    from napari_restore_rwkv.network.checkpoint import save_checkpoint

    path = folder / "tiny.safetensors"
    save_checkpoint(network, network.card, path)
    return path
