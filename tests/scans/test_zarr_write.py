"""OME-Zarr is written slab by slab: valid, lossless, and every slab in files of its own."""

import numpy as np
import pytest
import yaozarrs
import zarr
from handmade import rotation
from zarrs import noise

from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.scans.zarr.writing import choose_layout, create_image, remove_leftovers, write_slab


def write(path, scan, layout, order=None):
    create_image(path, scan, layout)
    for slab in order or range(layout.slabs):
        chosen = layout.slices(slab)
        region = [slice(None)] * 3
        region[layout.axis] = slice(chosen.start, chosen.stop)
        write_slab(path, layout, slab, scan.voxels[tuple(region)])
    return path


@pytest.fixture
def scan():
    return Scan(
        noise((10, 300, 270)),
        spacing_mm=(4.0, 0.8, 0.7),
        origin_mm=(-120.5, 33.25, 871.0),
        direction=rotation(),
        modality="MR",
        unit="a.u.",
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_result_opens_as_the_same_scan_and_is_valid_ome_zarr(tmp_path, scan, axis):
    path = write(tmp_path / "r.ome.zarr", scan, choose_layout(scan.shape, scan.voxels.dtype, axis, slab=4))
    yaozarrs.validate_zarr_store(path)
    opened = open_scan(path)
    assert np.array_equal(opened.voxels, scan.voxels)
    assert opened.voxels.dtype == scan.voxels.dtype
    assert opened.spacing_mm == scan.spacing_mm
    assert opened.origin_mm == scan.origin_mm
    assert np.allclose(opened.direction, scan.direction, rtol=0, atol=1e-15)
    assert (opened.modality, opened.unit) == ("MR", "a.u.")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slab_changes_its_own_files_and_no_other(tmp_path, scan, axis):
    layout = choose_layout(scan.shape, scan.voxels.dtype, axis, slab=4)
    path = write(tmp_path / "r.zarr", scan, layout)
    files = [{path / name for name in layout.files(slab)} for slab in range(layout.slabs)]
    written = {file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"}
    assert set().union(*files) == written
    assert sum(map(len, files)) == len(written)
    before = {file: file.stat().st_mtime_ns for file in written}
    chosen = layout.slices(1)
    region = [slice(None)] * 3
    region[axis] = slice(chosen.start, chosen.stop)
    write_slab(path, layout, 1, scan.voxels[tuple(region)] + 1)
    assert {file for file in written if file.stat().st_mtime_ns != before[file]} == files[1]


def test_the_order_of_slabs_makes_no_difference(tmp_path, scan):
    layout = choose_layout(scan.shape, scan.voxels.dtype, 0, slab=4)
    forth = write(tmp_path / "forth.zarr", scan, layout)
    back = write(tmp_path / "back.zarr", scan, layout, [2, 0, 1])
    for name in [name for slab in range(3) for name in layout.files(slab)]:
        assert (forth / name).read_bytes() == (back / name).read_bytes()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_levels_halve_the_slice_plane_and_stay_aligned_with_level_0(tmp_path, axis):
    # A ramp in each direction: a mean of pairs is the value at the place half-way between them.
    shape = (520, 514, 516)
    grid = np.meshgrid(
        *(np.arange(3 if at == axis else size) for at, size in enumerate(shape)), indexing="ij", sparse=True
    )
    scan = Scan((grid[0] + 3 * grid[1] + 7 * grid[2]).astype(np.float64), (2.0, 0.5, 0.25), (1.0, 2.0, 3.0))
    layout = choose_layout(scan.shape, scan.voxels.dtype, axis)
    path = write(tmp_path / "r.zarr", scan, layout)
    group = zarr.open_group(path, mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert len(datasets) == layout.levels == 3
    spacing, start = np.array(scan.spacing_mm), np.array(scan.origin_mm[::-1])
    for level, dataset in enumerate(datasets):
        scale, translation = (np.array(step[step["type"]]) for step in dataset["coordinateTransformations"])
        values = np.asarray(group[dataset["path"]])
        assert values.shape[axis] == 3
        assert scale[axis] == spacing[axis]
        at = np.meshgrid(*(np.arange(size) for size in values.shape), indexing="ij", sparse=True)
        place = [(scale[i] * at[i] + translation[i] - start[i]) / spacing[i] for i in range(3)]
        expected = place[0] + 3 * place[1] + 7 * place[2]
        whole = tuple(slice(0, n if i == axis else shape[i] >> level) for i, n in enumerate(values.shape))
        assert np.allclose(values[whole], np.broadcast_to(expected, values.shape)[whole], rtol=0, atol=1e-9)


def test_the_last_voxel_without_a_partner_is_kept(tmp_path):
    voxels = np.zeros((1, 3, 513), np.int16)
    voxels[0, 2, 512] = 1234
    layout = choose_layout(voxels.shape, voxels.dtype, 0)
    path = write(tmp_path / "r.zarr", Scan(voxels), layout)
    level_1 = np.asarray(zarr.open_array(path / "1", mode="r"))
    assert level_1.shape == (1, 2, 257)
    assert level_1[0, 1, 256] == 1234
    assert level_1.sum() == 1234


def test_a_slab_of_zeros_leaves_files(tmp_path):
    scan = Scan(np.zeros((8, 30, 30), np.float32))
    layout = choose_layout(scan.shape, scan.voxels.dtype, 0, slab=4)
    path = write(tmp_path / "r.zarr", scan, layout)
    assert all((path / name).is_file() for slab in range(2) for name in layout.files(slab))


def test_chunks_carry_checksums_and_are_as_agreed(tmp_path, scan):
    layout = choose_layout((100, 600, 600), np.float32, 0)
    path = tmp_path / "r.zarr"
    create_image(path, scan, layout)
    [sharding] = zarr.open_array(path / "0", mode="r").metadata.to_dict()["codecs"]
    assert tuple(sharding["configuration"]["chunk_shape"]) == (4, 256, 256)
    zstd = sharding["configuration"]["codecs"][-1]
    assert (zstd["name"], dict(zstd["configuration"])) == ("zstd", {"level": 1, "checksum": True})


@pytest.mark.parametrize("shape", [(500, 512, 512), (500, 2048, 2048), (9, 5000, 5000), (2, 30, 30)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shards_are_whole_slices_of_at_most_64_mib(shape, axis):
    layout = choose_layout(shape, np.float32, axis)
    shard = layout.shard(0)
    size = np.prod(shard, dtype=np.int64) * 4
    assert size <= 64 << 20 or layout.slab == 1
    assert all(shard[at] >= shape[at] for at in range(3) if at != axis)
    for level in range(layout.levels):
        assert all(s % c == 0 for s, c in zip(layout.shard(level), layout.chunk(level), strict=True))
    covered = [index for slab in range(layout.slabs) for index in layout.slices(slab)]
    assert covered == list(range(shape[axis]))


def test_leftovers_of_a_slab_are_removed_and_those_of_others_stay(tmp_path, scan):
    layout = choose_layout(scan.shape, scan.voxels.dtype, 2, slab=4)
    path = write(tmp_path / "r.zarr", scan, layout)
    ours, theirs = (path / layout.files(slab)[0] for slab in (1, 11))
    for shard in (ours, theirs):
        shard.with_name(f"{shard.name}.0123.partial").write_bytes(b"half")
    assert remove_leftovers(path, layout, [1]) == 1
    assert not ours.with_name(f"{ours.name}.0123.partial").exists()
    assert theirs.with_name(f"{theirs.name}.0123.partial").exists()
    assert ours.exists()
