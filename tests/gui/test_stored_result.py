"""A result that is in a file and in single slices reads like one array, along every axis."""

from pathlib import Path

import numpy as np
import pytest
from file_jobs import undisturbed
from napari.layers import Image

from napari_restore_rwkv.gui.options import RestoreOptions
from napari_restore_rwkv.gui.restore.steps import restoration_steps
from napari_restore_rwkv.gui.restore.stored_result import StoredResult
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.scan import Scan


@pytest.fixture(params=[0, 1, 2], ids="zyx")
def axis(request):
    return request.param


@pytest.fixture
def scan(axis, rng):
    """Thirty slices along that axis."""
    shape = [9, 10, 11]
    shape[axis] = 30
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 3.0
    return Scan(rng.integers(-200, 300, shape, dtype=np.int16), tuple(spacing), modality="CT", unit="HU")


@pytest.fixture
def expected(scan, weights_file, tmp_path):
    return undisturbed(tmp_path / "other.ome.zarr", weights_file, scan)


def begin(scan, axis, weights: Path, output, region="volume", indices=()):
    result = StoredResult(scan, axis)
    layer = Image(scan.voxels, name="chest")
    options = RestoreOptions(layer=layer, weights=weights, region=region, output=output, run_on="cpu")
    return result, restoration_steps(options, result, list(indices), 5)


@pytest.mark.slow
def test_saved_and_unsaved_slices_read_like_one_array(scan, axis, expected, weights_file, tmp_path):
    result, steps = begin(scan, axis, weights_file, tmp_path / "x.ome.zarr")
    while len(result.finished) < 18:
        next(steps)
    assert 0 < len(result.saved) < 18
    assert result.restored.shape == scan.shape
    done = np.isin(np.arange(30), sorted(result.finished))
    wanted = np.where(np.expand_dims(done, tuple({0, 1, 2} - {axis})), expected, np.nan).astype(np.float32)
    difference = wanted - scan.voxels.astype(np.float32)
    for index in [np.s_[:], np.s_[4], np.s_[2:7, 3], np.s_[..., 1:9:2], np.s_[:, 5:2:-1, -1]]:
        assert np.array_equal(result.restored[index], wanted[index], equal_nan=True)
        assert np.array_equal(result.difference[index], difference[index], equal_nan=True)
    finish(steps)
    assert result.remaining == []
    assert np.array_equal(result.restored[:], expected)
    assert np.array_equal(result.as_scan().voxels[:], expected)
    assert result.as_scan().voxels.dtype == np.int16
    assert result.provenance["slice_axis"] == "zyx"[axis]


@pytest.mark.slow
def test_a_single_slice_reads_like_the_whole(scan, axis, expected, weights_file):
    result, steps = begin(scan, axis, weights_file, None, "slice", [5])
    finish(steps)
    assert result.finished == {5}
    assert result.saved == set()
    slice_of = result.region(5)
    assert np.allclose(result.restored[slice_of], expected[slice_of], atol=0.5001)
    assert np.isnan(result.restored[result.region(6)]).all()


@pytest.mark.slow
def test_the_display_limit_of_a_resumed_job_is_about_that_of_all_of_it(scan, axis, expected, weights_file, tmp_path):
    _, steps = begin(scan, axis, weights_file, tmp_path / "x.ome.zarr")
    first = next(steps)
    while first.done < 20:
        first = next(steps)
    steps.close()
    resumed, steps = begin(scan, axis, weights_file, tmp_path / "x.ome.zarr")
    next(steps)
    magnitudes = np.abs(expected - scan.voxels.astype(np.float32))
    assert resumed.limit == pytest.approx(np.percentile(magnitudes, 99.5), rel=0.5)
    assert resumed.ready
    finish(steps)
