"""Networks with neighbouring slices and noise as context: their inputs, in memory and in a file job."""

import numpy as np
import pytest
import torch

from napari_restore_rwkv.errors import CheckpointError, OutputError
from napari_restore_rwkv.jobs.job import restore_to_zarr
from napari_restore_rwkv.network.checkpoint import Card, load_checkpoint, save_checkpoint
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, NOISE_LEVEL_SCALE, RestoreRWKV
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.restoration.source import ScanSource
from napari_restore_rwkv.scans.scan import Scan


class Noting(RestoreRWKV):
    """Records its inputs."""

    def stages(self, image, *, in_strips=False):
        self.given = [*getattr(self, "given", []), image.clone()]
        yield from super().stages(image, in_strips=in_strips)


def with_context(network_type=RestoreRWKV):
    torch.manual_seed(0)
    network = network_type(channels=4, blocks=(1, 1, 1, 1), refinement=1, context=CONTEXT_CHANNELS).eval()
    with torch.no_grad():
        network.output.weight.normal_(0, 0.01)
        network.context_embed.weight.normal_(0, 1)
    return network.requires_grad_(False)


@pytest.fixture
def scan(rng):
    return Scan(rng.integers(-1000, 1000, (7, 16, 17)).astype(np.float32), spacing_mm=(3, 1, 1), modality="CT")


def test_a_slice_is_given_with_its_neighbours_and_the_noise(scan):
    network = with_context(Noting)
    finish(iter_restore(scan, network, noise=41.0, indices=[0, 3]))
    rule = choose_intensity(scan)
    for given, indices in zip(network.given, ((0, 0, 1), (3, 2, 4)), strict=True):
        np.testing.assert_array_equal(given[0, :3].numpy(), rule.to_network(scan.voxels[list(indices)]))
        np.testing.assert_allclose(given[0, 3].numpy(), NOISE_LEVEL_SCALE * 41 / 4096, rtol=1e-6)


def test_a_single_slice_replaces_its_missing_neighbours(scan):
    network, rule = with_context(), choose_intensity(scan)
    alone = scan.with_voxels(scan.voxels[2:3])
    expected = finish(iter_restore(alone, network, noise=20.0, axis="z")).voxels[0]
    np.testing.assert_array_equal(restore_slice(scan.voxels[2], network, rule, noise=20.0), expected)
    # Unknown noise is something else than any noise.
    assert np.abs(restore_slice(scan.voxels[2], network, rule) - expected).max() > 0


def test_an_image_without_context_repeats_itself_with_unknown_noise():
    network = with_context()
    image = torch.rand(2, 1, 12, 9)
    told = torch.cat((image, image, image, torch.zeros_like(image)), dim=1)
    assert torch.equal(network(image), network(told))
    assert network(image).shape == image.shape


@pytest.mark.slow
def test_a_file_job_gives_the_same_bits_whatever_the_slabs_and_the_order(scan, tmp_path):
    network = with_context()
    expected = finish(iter_restore(scan, network, noise=30.0, dtype=np.float32)).voxels
    for slices in (1, 2, 3):
        result = finish(
            restore_to_zarr(
                scan,
                network,
                tmp_path / f"{slices}.ome.zarr",
                slices_per_slab=slices,
                first=5,
                noise=30.0,
                dtype=np.float32,
            )
        )
        np.testing.assert_array_equal(np.asarray(result.voxels), expected)


def test_a_source_reads_each_slice_once_where_slices_come_in_order(scan):
    reads = []

    class Counted:
        shape, dtype = scan.shape, scan.voxels.dtype

        def __getitem__(self, region):
            reads.append(region[0].start)
            return scan.voxels[region]

    source = ScanSource(scan.with_voxels(Counted()), 0, range(7), neighbours=True)
    taken = [one for _ in range(7) for one in source.take(1)]
    assert [one.index for one in taken] == list(range(7))
    assert sorted(reads) == list(range(7))
    np.testing.assert_array_equal(taken[4].below, scan.voxels[3])
    assert source.remaining == 0


def test_weights_with_context_are_loaded_and_other_contexts_refused(tmp_path):
    network = with_context()
    save_checkpoint(network, Card("context"), tmp_path / "context.safetensors")
    again = load_checkpoint(tmp_path / "context.safetensors", fused=False)
    assert again.context == CONTEXT_CHANNELS
    image = torch.rand(1, 4, 8, 8)
    assert torch.equal(again(image), network(image))

    network.context_embed = torch.nn.Conv2d(5, 4, 3, padding=1, bias=False)
    save_checkpoint(network, Card("other"), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="other context than"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_new_context_changes_nothing_until_it_is_trained(tiny_network):
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1, context=CONTEXT_CHANNELS)
    plain = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1)
    with torch.no_grad():
        plain.output.weight.normal_(0, 0.01)
    network.load_state_dict(network.state_dict() | plain.state_dict())
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(image), plain(image))


def test_a_file_job_resumes_only_with_its_original_strength(scan, tmp_path):
    network = with_context()
    options = {"noise": 30.0, "dtype": np.float32}
    expected = finish(iter_restore(scan, network, strength=0.5, **options)).voxels
    result = finish(restore_to_zarr(scan, network, tmp_path / "half.ome.zarr", strength=0.5, **options))
    np.testing.assert_array_equal(np.asarray(result.voxels), expected)
    assert result.metadata["restoration"]["strength"] == 0.5
    assert result.metadata["restoration"]["noise"] == 30.0
    with pytest.raises(OutputError, match=r"strength: 0\.5, now not known"):
        finish(restore_to_zarr(scan, network, tmp_path / "half.ome.zarr", resume=True, **options))
