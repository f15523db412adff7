"""Geometry of a scan: positions, and the canonical order of its axes."""

from itertools import permutations, product

import numpy as np
import pytest

from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan, position_mm, to_canonical

OBLIQUE = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def numbered_scan(direction):
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    return Scan(voxels, spacing_mm=(3.0, 2.0, 1.5), origin_mm=(-10.0, 20.0, 5.0), direction=direction)


def every_orientation():
    for order, signs in product(permutations(range(3)), product((-1.0, 1.0), repeat=3)):
        yield np.eye(3)[:, list(order)] * signs


def test_position_runs_x_with_the_last_array_axis():
    scan = numbered_scan(np.eye(3))
    np.testing.assert_allclose(position_mm(scan, (1, 2, 3)), [-10 + 3 * 1.5, 20 + 2 * 2.0, 5 + 1 * 3.0])


@pytest.mark.parametrize("direction", [*every_orientation()])
@pytest.mark.parametrize("tilt", [np.eye(3), OBLIQUE @ np.diag([1.0, 1.0, 1.0])])
def test_canonical_order_leaves_every_voxel_where_it_was(direction, tilt):
    scan = numbered_scan(tilt @ direction)
    canonical = to_canonical(scan)
    assert np.argmax(np.abs(canonical.direction), axis=0).tolist() == [0, 1, 2]
    assert np.all(np.diag(canonical.direction) > 0)
    assert np.linalg.norm(canonical.direction, axis=0) == pytest.approx(1.0)
    for index in np.ndindex(*scan.shape):
        moved = tuple(int(i[0]) for i in np.nonzero(canonical.voxels == scan.voxels[index]))
        np.testing.assert_allclose(position_mm(canonical, moved), position_mm(scan, index), atol=1e-9)


def test_canonical_order_is_a_view():
    scan = numbered_scan(np.diag([-1.0, -1.0, 1.0]))
    assert np.shares_memory(to_canonical(scan).voxels, scan.voxels)


@pytest.mark.parametrize("direction", [*every_orientation()])
def test_lazy_voxels_are_turned_when_they_are_read(direction):
    scan = numbered_scan(direction)
    boxes = []

    def read(box):
        boxes.append(box)
        return scan.voxels[box]

    turned = to_canonical(scan.with_voxels(LazyVoxels(scan.shape, scan.voxels.dtype, read))).voxels
    assert boxes == []
    expected = to_canonical(scan).voxels
    assert turned.shape == expected.shape
    for index in (np.s_[0], np.s_[:, 1:, ::-1], np.s_[-1, :, 1:2]):
        np.testing.assert_array_equal(turned[index], expected[index])
    assert all(np.prod([axis.stop - axis.start for axis in box]) < scan.voxels.size for box in boxes)


def test_a_canonical_scan_stays_itself():
    scan = numbered_scan(OBLIQUE)
    assert to_canonical(scan) is scan
