"""Tiles: whole slices if they fit, nothing dimmed or amplified at borders, and always labelled as approximate."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration import slices as slices_module
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.restoration.tiles import Tile, in_tiles
from napari_restore_rwkv.scans.scan import Scan

SHAPES = [(64, 64), (65, 64), (64, 200), (130, 97), (300, 1), (193, 257)]
TILES = [Tile(64), Tile(64, 0), Tile(64, 32), Tile(96, 7)]


def together(image, tile, network=lambda batch: batch):
    for result in in_tiles(image, tile, lambda batch: iter([network(batch)])):
        last = result
    return last


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_a_constant_image_stays_constant_up_to_the_border(shape, tile):
    image = torch.full((2, 1, *shape), 0.75)
    assert (together(image, tile) - image).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", TILES)
def test_the_change_by_the_network_is_not_scaled_anywhere(shape, tile):
    image = torch.rand(1, 1, *shape)
    torch.testing.assert_close(together(image, tile, lambda batch: batch + 1), image + 1, rtol=0, atol=1e-6)


def test_a_ramp_joins_neighbours_and_the_border_has_none():
    starts = []

    def number(batch):
        starts.append(len(starts))
        return torch.full_like(batch, starts[-1])

    row = together(torch.zeros(1, 1, 64, 112), Tile(64, 16), number)[0, 0, 5]
    assert starts == [0, 1]
    assert (row[:48] == 0).all()
    assert (row[64:] == 1).all()
    torch.testing.assert_close(row[48:64], (torch.arange(16) + 0.5) / 16)


def test_all_tiles_have_one_size_and_cover_the_slice():
    seen = []
    together(torch.zeros(1, 1, 130, 500), Tile(64, 8), lambda batch: seen.append(batch.shape) or batch)
    assert set(seen) == {(1, 1, 64, 64)}
    assert len(seen) == 3 * 9


def test_a_slice_that_fits_is_restored_as_a_whole(small_scan, tiny_network):
    whole = finish(iter_restore(small_scan, tiny_network, dtype=np.float32))
    tiled = finish(iter_restore(small_scan, tiny_network, dtype=np.float32, tile=Tile(64)))
    assert np.array_equal(whole.voxels, tiled.voxels)
    assert whole.metadata["restoration"]["mode"] == tiled.metadata["restoration"]["mode"] == "whole slices"
    assert "tile" not in tiled.metadata["restoration"]


@pytest.fixture
def wide_scan(rng):
    return Scan(rng.integers(-1000, 1500, (2, 70, 150), dtype=np.int16), (5.0, 0.8, 0.8), modality="CT", unit="HU")


def test_a_tiled_slice_is_close_to_the_whole_one_and_called_approximate(wide_scan, tiny_network):
    whole = finish(iter_restore(wide_scan, tiny_network, dtype=np.float32))
    tiled = finish(iter_restore(wide_scan, tiny_network, dtype=np.float32, tile=Tile(64, 16)))
    changed = np.abs(whole.voxels - wide_scan.voxels).mean()
    assert 0 < np.abs(tiled.voxels - whole.voxels).mean() < 0.5 * changed
    record = tiled.metadata["restoration"]
    assert record["mode"] == "approximate tiles of 64 x 64, overlap 16"
    assert record["tile"] == {"size": 64, "overlap": 16}


def test_any_network_is_run_in_tiles(wide_scan):
    class Brighter(nn.Module):
        def forward(self, x):
            return x + 0.01

    expected = finish(iter_restore(wide_scan, Brighter(), any_modality=True))
    assert np.array_equal(finish(iter_restore(wide_scan, Brighter(), tile=Tile(64))).voxels, expected.voxels)


@pytest.mark.slow
def test_the_comparison_with_float32_uses_tiles_too(wide_scan, tiny_network, monkeypatch):
    tiles, made = [], slices_module.Executor

    def noted(*arguments, tile=None, **options):
        tiles.append(tile)
        return made(*arguments, tile=tile, **options)

    monkeypatch.setattr(slices_module, "Executor", noted)
    finish(iter_restore(wide_scan, tiny_network, precision="bfloat16", tile=Tile(64)))
    assert tiles == [Tile(64), Tile(64)]


def test_it_can_be_stopped_within_a_slice(wide_scan, tiny_network):
    steps = [step for step in iter_restore(wide_scan, tiny_network, tile=Tile(64)) if step.region is None]
    # Two rows of three tiles.
    assert len(steps) >= 2 * 6 * tiny_network.number_of_stages


@pytest.mark.parametrize(
    ("size", "overlap", "words"),
    [
        (63, None, "A tile must have at least 64 pixels along a side; got 63"),
        (64, 33, "Tiles of 64 pixels must overlap by 0 to 32 pixels; got 33"),
        (64, -1, "Tiles of 64 pixels must overlap by 0 to 32 pixels; got -1"),
    ],
)
def test_an_impossible_tile_is_refused(size, overlap, words):
    with pytest.raises(ScanError, match=words):
        Tile(size, overlap)
