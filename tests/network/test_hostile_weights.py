"""Weights files that were made to fill the memory, to run code or to hang: refused in a sentence, for little memory."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_restore_rwkv.errors import CheckpointError
from napari_restore_rwkv.network.checkpoint import Card, load_checkpoint, save_checkpoint


def zip_with(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def many_channels(path):
    save_file({"patch_embed.weight": torch.zeros(20_000, 1, 3, 3), "latent.0.ln1.weight": torch.zeros(1)}, path)


def many_blocks(path):
    save_file(
        {"patch_embed.weight": torch.zeros(48, 1, 3, 3)} | {f"latent.{i}.x": torch.zeros(1) for i in range(5000)}, path
    )


def endless_header(path):
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def nested_header(path):
    header = b'{"a":' * 100_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def one_value_many_times(path):
    torch.save({"patch_embed.weight": torch.zeros(1).expand(30_000, 1, 300, 300)}, path)


def compressed(path):
    zip_with(path, {"archive/data.pkl": b"\x80\x02}." + b"\0" * (1 << 30)}, zipfile.ZIP_DEFLATED)


def long_bytes(path):
    """A pickle of a few bytes that asks for 8 GB."""
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n" + pickle.dumps((8 << 30,), 2)[2:-1] + b"R.")


def long_bytes_in_text(path):
    path.write_bytes(b"cbuiltins\nbytearray\n(L8589934592L\ntR.")


def long_bytes_after_an_archive(path):
    """For torch a pickle, for others an archive."""
    made = io.BytesIO()
    zip_with(made, {"archive/data.pkl": b"\x80\x02}."})
    long_bytes(path)
    path.write_bytes(path.read_bytes() + made.getvalue())


def sparse(path):
    nothing = torch.sparse_coo_tensor(size=(60_000, 60_000), check_invariants=True)
    torch.save({"patch_embed.weight": nothing}, path)


def without_values(path):
    torch.save({"patch_embed.weight": torch.zeros(48, 1, 3, 3, device="meta")}, path)


def half_an_archive(path):
    torch.save({"patch_embed.weight": torch.zeros(48, 1, 3, 3)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def an_archive_with_a_damaged_list(path):
    torch.save({"patch_embed.weight": torch.zeros(48, 1, 3, 3)}, path)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at : at + 4] = b"PK\xff\xff"
    path.write_bytes(content)


def small_numbers(path):
    save_file({"patch_embed.weight": torch.zeros(4, 1, 3, 3).to(torch.float8_e4m3fn)}, path)


def doubled(kind):
    """A pickle that holds something which holds another one twice, and so on, sixty deep."""
    new, join = (b"", b"\x86") if kind == "tuple" else (b"]", b"e")
    made = new + (b"(" if new else b"") + b"K\x01K\x02" + join + b"q\0"
    for number in range(60):
        start = b"](" if new else b""
        again = b"h" + bytes([number])
        # A list takes what is on the stack behind the mark.
        made = start + made + again + join + b"q" + bytes([number + 1])
    return made


def pickled(path, content):
    zip_with(path, {"archive/data.pkl": b"\x80\x02" + content + b".", "archive/version": b"3\n"})


def key_that_is_hashed_for_ever(path):
    pickled(path, b"}" + doubled("tuple") + b"K\x01s")


def key_that_is_hashed_for_ever_in_a_stream(path):
    start = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    path.write_bytes(start + b"\x80\x02}" + doubled("tuple") + b"K\x01s." + b"\x80\x02].")


def key_that_ends_the_stack(path):
    pickled(path, b"})" + b"\x85" * 5_000_000 + b"K\x01s")


def words_without_an_end(path):
    pickled(path, b"N0" * 8_000_000)


def array_whose_name_is_printed_for_ever(path):
    pickled(path, b"(" + doubled("list") + b"K\x01K\x02K\x03K\x04tQ")


def call_that_is_printed_for_ever(path):
    pickled(path, doubled("list") + b")R")


HOSTILE = {
    "w.safetensors": [many_channels, many_blocks, endless_header, nested_header, small_numbers],
    "w.pth": [
        one_value_many_times,
        compressed,
        long_bytes,
        long_bytes_in_text,
        long_bytes_after_an_archive,
        sparse,
        without_values,
        half_an_archive,
        an_archive_with_a_damaged_list,
        key_that_is_hashed_for_ever,
        key_that_is_hashed_for_ever_in_a_stream,
        key_that_ends_the_stack,
        words_without_an_end,
        array_whose_name_is_printed_for_ever,
        call_that_is_printed_for_ever,
    ],
}
LOAD = """
import json, resource, sys
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.errors import CheckpointError
load_checkpoint("ct-denoise")
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_checkpoint(path)
        words = "loaded"
    except CheckpointError as error:
        words = str(error)
    print(json.dumps([words, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10]))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The message for each hostile file, and the growth in MiB of a process that tried to load it."""
    paths = {}
    for name, makers in HOSTILE.items():
        for make in makers:
            paths[make] = tmp_path_factory.mktemp(make.__name__) / name
            make(paths[make])
    # All in one process, as loading torch takes longer than all of them.
    command = [sys.executable, "-c", LOAD, *map(str, paths.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("make", [make for makers in HOSTILE.values() for make in makers])
def test_a_hostile_file_is_refused_in_a_sentence_for_little_memory(outcomes, make):
    words, grown_mib = outcomes[make]
    assert words.startswith("w.")
    assert words.endswith(".")
    assert grown_mib < 100


def test_a_pipe_or_a_folder_named_like_weights_is_refused(tmp_path):
    for name in ("a.safetensors", "a.pth", "a.restorerwkv"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name} is not a file; give a weights file"):
            load_checkpoint(tmp_path / name)
        (tmp_path / f"folder_{name}").mkdir()
        with pytest.raises(CheckpointError, match="is not a file"):
            load_checkpoint(tmp_path / f"folder_{name}")


@pytest.mark.parametrize(
    "change",
    [
        {"title": 5},
        {"title": "x" * 100_000},
        {"title": "a\0b"},
        {"title": "\u202eb"},
        {"task": "../../outside"},
        {"task": ["ct-denoise"]},
        {"modality": "US"},
        {"modality": {}},
        {"created": {"year": 2026}},
        {"limits": ["a"]},
        {"intended_use": None},
        {"weights_sha256": 7},
        {"details": ["a"]},
        {"details": "x"},
        {"details": {"created": 5}},
        {"details": {"verdict": "yes"}},
        {"details": {"verdict": {"accepted": "yes"}}},
        {"details": {"base": {"weights_sha256": 5}}},
        {"details": {"keeps_measured": "no"}},
        {"details": {"turns": True}},
        {"details": {"turns": [1]}},
        {"details": {"wrapped_border": True}},
        {"details": {"wrapped_border": -1}},
        {"details": {"wrapped_border": 4.0}},
        {"details": {"wrapped_border": 10**9}},
        {"details": {"own_error": "much"}},
        {"details": {"own_error": -1.0}},
        {"details": {"own_error": 1e308}},
        {"details": {"own_error": 10**400}},
        {"details": {"own_error": float("nan")}},
        {"details": {"noise_kept": 1.5}},
        {"details": {"noise_kept": True}},
        {"details": {"trained_for": {}}},
        {"details": {"trained_for": {"noise": [1, 2]}}},
        {"details": {"trained_for": {"noise": [2, 1], "mean_frequency": [0, 1]}}},
        {"details": {"trained_for": {"noise": ["a", 1], "mean_frequency": [0, 1]}}},
        {"details": {"note": "x" * 1_000_000}},
        {"details": {"curve": [0] * 300_000}},
        {"details": {"a": [[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]}},
    ],
)
def test_a_card_with_values_of_other_types_is_refused(tiny_network, tmp_path, change):
    path = tmp_path / "w.safetensors"
    save_checkpoint(tiny_network, Card(title="t"), path)
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"The card w\.json cannot be used: .*; get a new copy from its author"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"title": 1e999}', b"\xff"])
def test_a_malformed_card_is_refused_with_a_message(tiny_network, tmp_path, content):
    path = tmp_path / "w.safetensors"
    save_checkpoint(tiny_network, Card(title="t"), path)
    path.with_suffix(".json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"The card w\.json cannot be (read|used)"):
        load_checkpoint(path)


def test_weights_saved_as_a_stream_or_with_training_state_are_read(tiny_network, weights_file, tmp_path):
    weights, path = load_file(weights_file), tmp_path / "old.pth"
    torch.save({"params": weights, "epoch": 3, "loss": 0.5, "half": weights["output.bias"].half()}, path)
    assert load_checkpoint(path).output.bias.shape == (1,)
    torch.save(tiny_network.state_dict(), path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path).output.bias.shape == (1,)
