"""Zarr folders that are damaged, hostile or vanish: a clear error, never zeros, garbage, gigabytes or a crash."""

import gzip
import json
import os
import shutil
import struct

import google_crc32c
import numpy as np
import pytest
import zarr
from numcodecs import BZ2, LZ4, LZMA, Blosc, GZip, Pickle, Zlib, Zstd
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarrs import noise, ome

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.opening import open_scan
from napari_restore_rwkv.scans.zarr.chunks import METHODS, DamagedChunk, check_chunk
from napari_restore_rwkv.scans.zarr.reading import images_in

VOXELS = np.cumsum(np.ones((4, 32, 40), np.int16), axis=1, dtype=np.int16)
OLD = {"blosc": Blosc(), "zstd": Zstd(), "gzip": GZip(), "zlib": Zlib(), "bz2": BZ2(), "lzma": LZMA(), "lz4": LZ4()}
NEW = {"blosc": BloscCodec(), "zstd": ZstdCodec(), "gzip": GzipCodec()}


def old(path, compressor, **options):
    array = zarr.create_array(path, data=VOXELS, zarr_format=2, chunks=(2, 32, 40), compressors=compressor, **options)
    return path, path / "1.0.0", array


def new(path, codec):
    zarr.create_array(path, data=VOXELS, chunks=(2, 32, 40), compressors=codec)
    return path, path / "c" / "1" / "0" / "0"


def sharded(path, codec):
    array = zarr.create_array(
        path,
        shape=VOXELS.shape,
        dtype=VOXELS.dtype,
        chunks=VOXELS.shape,
        filters=None,
        compressors=None,
        serializer=ShardingCodec(chunk_shape=(2, 32, 40), codecs=[BytesCodec(), codec]),
    )
    array[:] = VOXELS
    return path, path / "c" / "0" / "0" / "0"


def test_every_decompressor_of_zarr_is_checked():
    assert set(OLD) == METHODS


@pytest.mark.parametrize("method", sorted(OLD))
@pytest.mark.parametrize("make", [old, new, sharded])
def test_whole_chunks_are_read_and_truncated_ones_refused(tmp_path, method, make):
    if make is not old and method not in NEW:
        return
    path, chunk, *_ = make(tmp_path / "a.zarr", (OLD if make is old else NEW)[method])
    np.testing.assert_array_equal(read_scan(path).voxels, VOXELS)
    content = chunk.read_bytes()
    for kept in (0, 1, 10, 20, len(content) // 2, len(content) - 1):
        chunk.write_bytes(content[:kept])
        with pytest.raises(ScanError, match=r"a\.zarr cannot be read: voxels of z .* are damaged or missing"):
            read_scan(path)


@pytest.mark.parametrize("method", sorted(OLD))
def test_a_chunk_that_unpacks_to_more_or_less_than_its_array_says_is_refused(tmp_path, method):
    path, chunk, *_ = old(tmp_path / "a.zarr", OLD[method])
    for size in (1 << 20, 2558, 0):
        chunk.write_bytes(bytes(OLD[method].encode(bytes(size))) if size else b"")
        with pytest.raises(ScanError, match=r"are damaged or missing \((a chunk |1\.0\.0 is empty)"):
            read_scan(path)


@pytest.mark.parametrize("method", ["gzip", "zlib", "bz2", "lzma"])
def test_a_second_stream_after_the_first_is_refused(method):
    packed = bytes(OLD[method].encode(bytes(1000)))
    check_chunk(method, packed, 1000)
    with pytest.raises(DamagedChunk, match="continues after its end"):
        check_chunk(method, packed + packed, 1000)


def test_a_chunk_with_a_false_size_takes_no_memory(tmp_path):
    path, chunk, *_ = old(tmp_path / "a.zarr", Blosc())
    content = bytearray(chunk.read_bytes())
    struct.pack_into("<I", content, 4, 0x7FFFFFFF)
    chunk.write_bytes(content)
    with pytest.raises(ScanError, match="a chunk of 5120 bytes would unpack to 2147483647"):
        read_scan(path)


def test_a_zstd_frame_without_its_size_is_read(tmp_path):
    path, chunk, *_ = old(tmp_path / "a.zarr", Zstd(level=0))
    # A frame of one raw block, as from a writer who does not know the length beforehand.
    block = VOXELS[2:].tobytes()
    chunk.write_bytes(b"\x28\xb5\x2f\xfd\x00\x48" + (len(block) << 3 | 1).to_bytes(3, "little") + block)
    np.testing.assert_array_equal(read_scan(path).voxels, VOXELS)
    # Many blocks of one repeated byte each.
    blocks = (128 << 10 << 3 | 2).to_bytes(3, "little") + b"x"
    chunk.write_bytes(b"\x28\xb5\x2f\xfd\x00\x48" + blocks * 100 + b"\x01\0\0")
    with pytest.raises(ScanError, match="a chunk of 5120 bytes would unpack to 13107200"):
        read_scan(path)


def test_pickled_objects_and_unknown_codecs_are_refused(tmp_path):
    path, _, _ = old(tmp_path / "a.zarr", None)
    metadata = json.loads((path / ".zarray").read_text())
    for values, name in (
        ({"filters": [Pickle().get_config()]}, "pickle"),
        ({"compressor": Pickle().get_config()}, "pickle"),
        ({"filters": [{"id": "json2"}]}, "json2"),
    ):
        (path / ".zarray").write_text(json.dumps(metadata | values))
        with pytest.raises(ScanError, match=rf"uses the codec {name}, which is not supported|metadata are missing or"):
            read_scan(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_vanished_chunk_is_an_error_and_an_absent_one_is_reported(tmp_path, version):
    path = ome(tmp_path / "a.zarr", noise((6, 16, 16)), "zyx", version, chunks=(2, 16, 16))
    chunk = path / "full" / ("c/1/0/0" if version == "0.5" else "1/0/0")
    if not chunk.exists():
        chunk = path / "full" / "1.0.0"
    scan = open_scan(path)
    assert "notes" not in scan.metadata
    content = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(ScanError, match=r"a\.zarr has lost full/.* since it was opened"):
        np.asarray(scan.voxels[2])
    assert np.asarray(scan.voxels[0]).any()
    lacking = open_scan(path)
    [note] = lacking.metadata["notes"]
    assert "has no file for 1 of its 3 chunks, which are read as 0" in note
    assert not np.asarray(lacking.voxels[2]).any()
    chunk.write_bytes(content)
    assert np.asarray(scan.voxels[2]).any()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_out_of_the_folder_are_refused_unless_allowed(tmp_path, what):
    path = ome(tmp_path / "a.zarr", noise((4, 16, 16)), "zyx", chunks=(2, 16, 16))
    place = path / "full" / "c" / "1" if what == "folder" else path / "full" / "c" / "1" / "0" / "0"
    shutil.move(place, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", place)
    scan = open_scan(path, modality="CT")
    with pytest.raises(ScanError, match=r"outside its own folder.* --allow-outside-files") as caught:
        np.asarray(scan.voxels[2])
    assert str(tmp_path) not in str(caught.value)
    np.testing.assert_array_equal(read_scan(path, allow_outside_files=True).voxels, noise((4, 16, 16)))
    # A link to the whole folder is the user's own.
    os.symlink(path, tmp_path / "linked.zarr")
    assert np.asarray(open_scan(tmp_path / "linked.zarr", modality="CT").voxels[0]).any()


def test_a_pipe_in_place_of_a_chunk_does_not_block(tmp_path):
    path = ome(tmp_path / "a.zarr", noise((4, 16, 16)), "zyx", chunks=(2, 16, 16))
    chunk = path / "full" / "c" / "1" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(ScanError, match="contains a pipe or a device"):
        read_scan(path)


def test_a_chunk_file_far_too_large_is_not_read(tmp_path):
    path = ome(tmp_path / "a.zarr", noise((4, 16, 16)), "zyx", chunks=(2, 16, 16))
    os.truncate(path / "full" / "c" / "1" / "0" / "0", 1 << 40)
    with pytest.raises(ScanError, match=r"has 1099511627776 bytes, but at most \d+ are expected"):
        read_scan(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shape": [1 << 20, 1 << 20, 1 << 20]}, "more than any scan has"),
        ({"shape": [4, 100_000, 100_000]}, "one slice or shard has"),
        ({"chunks": [1 << 20, 1 << 12, 1 << 12]}, "does not fit into memory"),
        ({"dtype": "|O", "filters": None}, "metadata are missing or damaged|give an array of real numbers"),
    ],
)
def test_metadata_that_would_take_all_memory_or_time_are_refused(tmp_path, values, words):
    path, _, _ = old(tmp_path / "a.zarr", Zstd())
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | values))
    with pytest.raises(ScanError, match=words):
        read_scan(path)


def test_a_small_folder_that_unpacks_to_gigabytes_is_refused(tmp_path):
    path, chunk, _ = old(tmp_path / "a.zarr", GZip())
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | {"shape": [650, 1024, 1024], "chunks": [650, 1024, 1024]}))
    chunk.unlink()
    (path / "0.0.0").write_bytes(gzip.compress(bytes(1 << 20)) * 650)
    with pytest.raises(ScanError, match="to 1363 MB, which no scan does"):
        read_scan(path)
    with pytest.raises(ScanError, match="to 1363 MB, which no scan does"):
        np.asarray(open_scan(path, modality="CT").voxels[0])


def test_metadata_that_list_endless_files_are_refused_at_once(tmp_path):
    path, _, _ = old(tmp_path / "a.zarr", Zstd())
    metadata = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(metadata | {"shape": [1 << 28, 32, 40]}))
    with pytest.raises(ScanError, match="metadata describe 134217728 files of voxels, but almost none exist"):
        open_scan(path)


@pytest.mark.parametrize("attributes", ["3", '"text"', "[]"])
def test_attributes_of_the_wrong_type_are_refused(tmp_path, attributes):
    path = ome(tmp_path / "a.zarr", noise((2, 3, 4)), "zyx")
    text = (path / "zarr.json").read_text()
    metadata = json.loads(text) | {"attributes": json.loads(attributes)}
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(
        ScanError, match=r"metadata are missing or damaged|contains no array|give the folder of one array"
    ):
        read_scan(path)


@pytest.mark.parametrize("attributes", ["[]", '{"_ARRAY_DIMENSIONS": 3}', '{"_ARRAY_DIMENSIONS": [[], "y"]}'])
def test_axes_of_the_wrong_type_are_no_names(tmp_path, attributes):
    voxels = noise((2, 3, 4))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("only", shape=voxels.shape, dtype=voxels.dtype)[:] = voxels
    (tmp_path / "a.zarr" / "only" / ".zattrs").write_text(attributes)
    np.testing.assert_array_equal(read_scan(tmp_path / "a.zarr").voxels, voxels)


def _collection(path):
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    return path


def test_endless_attributes_do_not_block(tmp_path):
    path = _collection(tmp_path / "a.zarr")
    for make in (os.mkfifo, lambda name: os.symlink("/dev/zero", name), lambda name: name.write_text("[" * 100_000)):
        (path / ".zattrs").unlink()
        make(path / ".zattrs")
        assert images_in(path) == []


def test_an_image_of_a_collection_that_lies_outside_is_refused_unless_allowed(tmp_path):
    path, *_ = old(tmp_path / "elsewhere", Zstd())
    os.symlink(path, _collection(tmp_path / "a.zarr") / "0")
    for read in (read_scan, images_in):
        with pytest.raises(ScanError, match=r"outside its own folder.* --allow-outside-files"):
            read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.zarr", allow_outside_files=True).voxels, VOXELS)


def test_a_collection_that_contains_itself_is_refused(tmp_path):
    path = _collection(tmp_path / "a.zarr")
    os.symlink(".", path / "0")
    with pytest.raises(ScanError, match="is a collection of collections"):
        read_scan(path)


def test_a_shard_that_says_its_chunks_are_gigabytes_is_refused(tmp_path):
    """A sparse file has as many bytes as it says, and takes no place on the disk."""
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        path, shape=(4, 64, 64), shards=(4, 64, 64), chunks=(1, 64, 64), dtype="i2", compressors=None
    )
    array[:] = noise((4, 64, 64))
    shard = path / "c" / "0" / "0" / "0"
    index = struct.pack("<8Q", 0, 6 << 30, *([0, 8192] * 3))
    with shard.open("r+b") as stream:
        stream.truncate(7 << 30)
        stream.seek((7 << 30) - len(index) - 4)
        stream.write(index + struct.pack("<I", google_crc32c.value(index)))
    with pytest.raises(ScanError, match=r"a chunk of 6442450944 bytes in c/0/0/0"):
        np.asarray(open_scan(path, modality="CT").voxels[0])
