"""A scan through a network: order, exactness, types, cancelling, and every refusal."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from napari_restore_rwkv.errors import CheckpointError, DeviceError, ScanError
from napari_restore_rwkv.progress import Phase
from napari_restore_rwkv.restoration.intensity import IntensityRule, choose_intensity
from napari_restore_rwkv.restoration.restore import iter_restore, restore_slice
from napari_restore_rwkv.scans.scan import Scan


class Identity(nn.Module):
    """Returns its input."""

    def forward(self, x):
        return x


class Darker(nn.Module):
    """Subtracts a hundredth of the window from every pixel."""

    def forward(self, x):
        return x - 0.01


def finished(steps):
    """The restored scan, and all progress reported."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


def finished_slices(seen, axis=0):
    return [progress.region[axis].start for progress in seen if progress.region]


def test_each_slice_is_the_network_applied_to_it(small_scan, tiny_network):
    restored, _ = finished(iter_restore(small_scan, tiny_network, dtype=np.float32))
    rule = choose_intensity(small_scan)
    for got, image in zip(restored.voxels, small_scan.voxels, strict=True):
        batch = torch.from_numpy(rule.to_network(image))[None, None]
        expected = rule.from_network(tiny_network(batch)[0, 0].detach().numpy(), image)
        np.testing.assert_allclose(got, expected, atol=1e-3)
        np.testing.assert_array_equal(got, restore_slice(image, tiny_network, rule))
    assert np.abs(restored.voxels - small_scan.voxels).max() > 1


def test_the_geometry_is_kept_and_provenance_is_added(small_scan, tiny_network):
    restored, _ = finished(iter_restore(small_scan, tiny_network))
    assert restored.spacing_mm == small_scan.spacing_mm
    assert restored.origin_mm == small_scan.origin_mm
    np.testing.assert_array_equal(restored.direction, small_scan.direction)
    record = restored.metadata["restoration"]
    assert record["task"] == "ct-denoise"
    assert record["slices"] == 3
    assert len(record["input_sha256"]) == 64
    assert record["notice"] == "Research use only. Not for diagnosis."
    json.dumps(record)


def test_the_displayed_slice_comes_first_then_its_neighbours(rng):
    scan = Scan(rng.random((7, 8, 8), np.float32))
    _, seen = finished(iter_restore(scan, Identity(), first=4))
    assert finished_slices(seen) == [4, 3, 5, 2, 6, 1, 0]


def test_scrolling_changes_what_comes_next(rng):
    scan = Scan(rng.random((9, 8, 8), np.float32))
    steps = iter_restore(scan, Identity(), first=0)
    order, sent = [], None
    while len(order) < 9:
        progress = steps.send(sent)
        if progress.region:
            order.append(progress.region[0].start)
        sent = 7 if order == [0] else None
    assert order == [0, 7, 6, 8, 5, 4, 3, 2, 1]


def test_progress_counts_slices_and_steps_inside_a_slice(small_scan, tiny_network):
    _, seen = finished(iter_restore(small_scan, tiny_network))
    assert [p.done for p in seen if p.region] == [1, 2, 3]
    assert {p.total for p in seen} == {3}
    inside = [p for p in seen if p.region is None]
    assert len(inside) >= 3 * tiny_network.number_of_stages
    assert (inside[0].phase, inside[0].done, inside[0].total) == (Phase.RESTORING, 0, 3)


def test_closing_keeps_finished_slices_and_changes_no_others(small_scan):
    output = np.full(small_scan.shape, np.nan, np.float32)
    steps = iter_restore(small_scan, Darker(), output=output, first=1)
    while next(steps).region is None:
        pass
    steps.close()
    assert np.isfinite(output[1]).all()
    assert np.isnan(output[[0, 2]]).all()


def test_only_chosen_slices_change(small_scan):
    restored, seen = finished(iter_restore(small_scan, Darker(), indices=[2]))
    assert finished_slices(seen) == [2]
    np.testing.assert_array_equal(restored.voxels[:2], small_scan.voxels[:2])
    assert (restored.voxels[2] != small_scan.voxels[2]).any()


@pytest.mark.parametrize(
    ("spacing", "axis"), [((5, 1, 1), 0), ((1, 5, 1), 1), ((1, 1, 5), 2), ((1, 1, 1), 0), ((1, 2, 2), 0)]
)
def test_slices_are_across_the_axis_of_clearly_the_largest_spacing(rng, spacing, axis):
    scan = Scan(rng.random((3, 4, 5), np.float32), spacing_mm=spacing)
    _, seen = finished(iter_restore(scan, Identity()))
    assert finished_slices(seen, axis) == list(range(scan.shape[axis]))


def test_an_axis_can_be_chosen(small_scan, tiny_network):
    along_x, seen = finished(iter_restore(small_scan, tiny_network, axis="x", dtype=np.float32))
    assert finished_slices(seen, axis=2) == list(range(26))
    rule = choose_intensity(small_scan)
    np.testing.assert_array_equal(
        along_x.voxels[:, :, 4], restore_slice(small_scan.voxels[:, :, 4], tiny_network, rule)
    )
    with pytest.raises(ScanError, match="must be auto, z, y or x; got 'w'"):
        next(iter_restore(small_scan, tiny_network, axis="w"))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("int16", "int16"),
        ("uint16", "uint16"),
        ("int32", "int32"),
        ("uint8", "float32"),
        ("float32", "float32"),
        ("float64", "float32"),
    ],
)
def test_wide_integers_stay_integers_and_all_else_becomes_float32(rng, given, kept):
    scan = Scan(rng.integers(0, 200, (2, 9, 9)).astype(given), modality="MR")
    restored, _ = finished(iter_restore(scan, Identity()))
    assert restored.voxels.dtype == kept
    np.testing.assert_allclose(restored.voxels, scan.voxels, atol=1e-3)


def test_integers_are_rounded_and_clipped():
    scan = Scan(np.full((1, 8, 8), 5, np.uint16), modality="MR")
    restored, _ = finished(iter_restore(scan, Darker(), intensity=IntensityRule("test", 0, 1000, "")))
    assert (restored.voxels == 0).all()
    shifted, _ = finished(iter_restore(scan, Darker(), intensity=IntensityRule("test", 0, 140, "")))
    assert (shifted.voxels == 4).all()


def test_values_outside_the_window_nan_and_infinities_pass_through(small_scan):
    voxels = small_scan.voxels.astype(np.float32)
    voxels[0, 0, :4] = [np.nan, np.inf, -np.inf, 9000]
    restored, _ = finished(iter_restore(small_scan.with_voxels(voxels), Darker()))
    np.testing.assert_array_equal(restored.voxels[0, 0, :4], voxels[0, 0, :4])
    rest = np.isfinite(voxels) & (voxels >= -1024) & (voxels <= 3072)
    np.testing.assert_allclose(restored.voxels[rest], voxels[rest] - 40.96, atol=1e-2)


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.int32, 16_777_217), (np.int64, 2**63 - 1), (np.uint64, 2**64 - 1), (np.int64, -(2**63))]
)
def test_integers_outside_the_window_keep_every_digit(dtype, value):
    scan = Scan(np.full((1, 8, 8), value, dtype), modality="CT")
    restored, _ = finished(iter_restore(scan, Darker()))
    assert (restored.voxels == value).all()


def test_a_value_that_would_become_infinite_is_refused_before_its_slice(small_scan):
    voxels = small_scan.voxels.astype(np.float64)
    voxels[1, 3, 3] = -1e300
    scan, output = small_scan.with_voxels(voxels), small_scan.voxels.astype(np.float32)
    before = output.copy()
    words = r"values as large as 1e\+300, and those beyond 1e\+38 cannot be restored; divide its values by a constant"
    with pytest.raises(ScanError, match=words):
        finished(iter_restore(scan, Darker(), output=output))
    assert not np.array_equal(output[0], before[0])
    np.testing.assert_array_equal(output[1:], before[1:])
    with pytest.raises(ScanError, match=words):
        restore_slice(voxels[1], Darker(), choose_intensity(small_scan))


def test_the_padding_of_float32_passes_through(small_scan):
    voxels = small_scan.voxels.astype(np.float32)
    voxels[:, 0] = np.finfo(np.float32).min
    restored, _ = finished(iter_restore(small_scan.with_voxels(voxels), Darker()))
    np.testing.assert_array_equal(restored.voxels[:, 0], voxels[:, 0])


def test_a_real_number_beyond_the_integers_becomes_the_nearest_one():
    scan = Scan(np.full((1, 8, 8), 1e30, np.float32), modality="CT")
    restored, _ = finished(iter_restore(scan, Identity(), dtype=np.int64))
    assert (restored.voxels > 9e18).all()


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 1, 1), (1, 1, 40)])
def test_tiny_images_are_restored(rng, tiny_network, shape):
    restored, _ = finished(iter_restore(Scan(rng.random(shape, np.float32), modality="CT"), tiny_network))
    assert np.isfinite(restored.voxels).all()


def test_the_identity_returns_a_constant_image_unchanged():
    restored, _ = finished(iter_restore(Scan(np.full((2, 20, 20), 7.5, np.float32)), Identity()))
    np.testing.assert_allclose(restored.voxels, 7.5, rtol=1e-6)


def test_slices_are_read_one_at_a_time_and_never_before(rng):
    class Lazy:
        shape, dtype, read = (5, 8, 8), np.dtype(np.float32), 0

        def __getitem__(self, region):
            Lazy.read += 1
            return rng.random(self.shape, np.float32)[region]

    steps = iter_restore(Scan(Lazy(), modality="CT"), Identity())
    assert Lazy.read == 0
    while next(steps).region is None:
        pass
    assert Lazy.read == 1


def test_weights_for_ct_refuse_an_mr_scan_unless_allowed(small_scan, tiny_network):
    scan = Scan(small_scan.voxels, modality="MR")
    with pytest.raises(CheckpointError, match=r"made for CT, but this scan is MR; choose weights for MR, or allow any"):
        next(iter_restore(scan, tiny_network))
    restored, _ = finished(iter_restore(scan, tiny_network, any_modality=True))
    assert restored.metadata["restoration"]["intensity"]["name"].startswith("mr")


def test_unsuitable_input_is_refused_with_a_message(tiny_network):
    for message, voxels in {
        r"must have 3 dimensions; got shape \(4, 4\)": np.zeros((4, 4)),
        r"must have 3 dimensions; got shape \(2, 3, 4, 4\). Choose one time frame": np.zeros((2, 3, 4, 4)),
        r"empty: its shape is \(0, 4, 4\)": np.zeros((0, 4, 4)),
        "integers or real numbers, got complex64": np.zeros((1, 4, 4), np.complex64),
        "integers or real numbers, got bool": np.zeros((1, 4, 4), bool),
    }.items():
        with pytest.raises(ScanError, match=message):
            next(iter_restore(Scan(voxels), tiny_network))
    with pytest.raises(ScanError, match=r"Slices run from 0 to 0; got 3 to 3"):
        next(iter_restore(Scan(np.zeros((1, 4, 4))), tiny_network, indices=[3]))
    with pytest.raises(ScanError, match=r"output has shape \(2, 4, 4\), but the scan has \(1, 4, 4\)"):
        next(iter_restore(Scan(np.zeros((1, 4, 4))), tiny_network, output=np.zeros((2, 4, 4))))


def test_a_network_that_returns_nan_changes_nothing(small_scan):
    class Broken(nn.Module):
        def forward(self, x):
            return x * torch.nan

    output = small_scan.voxels.astype(np.float32)
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        finished(iter_restore(small_scan, Broken(), output=output))
    np.testing.assert_array_equal(output, small_scan.voxels)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError()]
)
def test_running_out_of_memory_says_so_and_any_other_error_is_not_hidden(small_scan, error):
    class Failing(nn.Module):
        def forward(self, x):
            raise error

    with pytest.raises(DeviceError, match=r"not enough memory on cpu for a slice of 21 x 26; .* smaller slice"):
        finished(iter_restore(small_scan, Failing()))
    error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        finished(iter_restore(small_scan, Failing()))
