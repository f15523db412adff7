import errno
import json
import os
import zipfile

import pytest
import torch

from napari_restore_rwkv.errors import CheckpointError, OutputError
from napari_restore_rwkv.network.bundles import MANIFEST
from napari_restore_rwkv.network.checkpoint import Card, load_checkpoint, save_checkpoint
from napari_restore_rwkv.storage.temporary import BESIDE
from napari_restore_rwkv.training import bundle as bundles
from napari_restore_rwkv.training.adapters import adapters_in, add_adapters
from napari_restore_rwkv.training.bundle import (
    FOLDER_VARIABLE,
    available_bundles,
    bundles_folder,
    copy_bundle,
    save_bundle,
)

CARD = Card(title="ours", task="ct-denoise", modality="CT", details={"verdict": {"accepted": True}})


@pytest.fixture
def bundle(tiny_network, tmp_path):
    return save_bundle(tmp_path / "ours", CARD, weights=tiny_network.state_dict(), picture=b"png")


def rewritten(bundle, change):
    """The bundle with some of its files changed."""
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    target = bundle.with_name("changed.restorerwkv")
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def test_a_bundle_loads_as_the_network_that_was_saved(bundle, tiny_network):
    network = load_checkpoint(bundle)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(image), tiny_network.fused()(image))
    assert (network.card.title, network.card.task) == ("ours", "ct-denoise")
    assert len(network.card.weights_sha256) == 64


@pytest.mark.parametrize("write", ["save", "copy"])
def test_a_failed_write_leaves_the_name_free(bundle, tiny_network, tmp_path, monkeypatch, write):
    def again(path):
        if write == "save":
            return save_bundle(path, CARD, weights=tiny_network.state_dict())
        return copy_bundle(bundle, path)

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as full:
        full.setattr(bundles, "sync_file", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OutputError, match=r"cannot be written \(no space is left on the disk\): free some space"):
            again(tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before
    assert load_checkpoint(again(tmp_path / "new")).card.title == "ours"


def test_what_a_killed_writer_leaves_is_removed_by_the_next_one(bundle, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(bundles, "sync_file", lambda _: seen.extend(tmp_path.iterdir()))
    copy_bundle(bundle, tmp_path / "new")
    assert [path.name.startswith(BESIDE) for path in seen if path != bundle] == [True]


def test_weights_and_card_on_a_full_disk_leave_the_old_ones(weights_file, tiny_network, tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("napari_restore_rwkv.storage.durable.sync_file", full)
    with pytest.raises(OutputError, match=r"cannot be written \(no space is left on the disk\): free some space"):
        save_checkpoint(tiny_network, CARD, weights_file)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_renamed_bundle_is_still_recognised(bundle, tmp_path):
    renamed = bundle.rename(tmp_path / "weights.bin")
    assert load_checkpoint(renamed).card.title == "ours"


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors", "before_after.png"])
def test_a_bundle_with_one_changed_byte_is_refused(bundle, name):
    def flip(contents):
        content = bytearray(contents[name])
        content[len(content) // 2] ^= 1
        contents[name] = bytes(content)

    with pytest.raises(CheckpointError, match=f"was changed: {name} does not match its digest. Get a new copy"):
        load_checkpoint(rewritten(bundle, flip))


@pytest.mark.parametrize(
    "change", [lambda contents: contents.update(extra=b"x"), lambda contents: contents.pop("before_after.png")]
)
def test_a_bundle_with_extra_or_missing_files_is_refused(bundle, change):
    with pytest.raises(CheckpointError, match="files were added or are missing"):
        load_checkpoint(rewritten(bundle, change))


def test_a_card_for_other_weights_is_refused_though_its_digest_is_right(bundle):
    def swap(contents):
        import hashlib

        contents["card.json"] = json.dumps(json.loads(contents["card.json"]) | {"weights_sha256": "0" * 64}).encode()
        manifest = json.loads(contents[MANIFEST])
        manifest["files"]["card.json"] = hashlib.sha256(contents["card.json"]).hexdigest()
        contents[MANIFEST] = json.dumps(manifest).encode()

    with pytest.raises(CheckpointError, match="its card describes other weights"):
        load_checkpoint(rewritten(bundle, swap))


def test_a_bundle_of_a_later_format_is_refused(bundle):
    def later(contents):
        contents[MANIFEST] = contents[MANIFEST].replace(b'"format": 1', b'"format": 2')

    with pytest.raises(CheckpointError, match="a bundle in format 2, and this version reads format 1; update"):
        load_checkpoint(rewritten(bundle, later))


def test_a_cut_off_bundle_is_refused(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="damaged or was changed: it cannot be read"):
        load_checkpoint(bundle)


def test_a_bundle_is_never_overwritten(bundle, tiny_network):
    before = bundle.read_bytes()
    with pytest.raises(OutputError, match=r"ours\.restorerwkv already exists, and weights are never overwritten"):
        save_bundle(bundle, CARD, weights=tiny_network.state_dict())
    assert bundle.read_bytes() == before


def adapters_of(network):
    add_adapters(network, 2, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    return adapters_in(network.state_dict())


def test_adapters_are_merged_exactly_into_the_base_in_their_bundle(tiny_network, tmp_path):
    base = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    adapters = adapters_of(tiny_network)
    loaded = load_checkpoint(save_bundle(tmp_path / "low", CARD, adapters=adapters, base=base), fused=False)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(loaded(image), tiny_network(image))


def test_adapters_of_shipped_weights_are_saved_without_them(tiny_network, tmp_path, monkeypatch):
    from napari_restore_rwkv.network import checkpoint

    shipped = tmp_path / "ct-denoise.safetensors"
    save_checkpoint(tiny_network, tiny_network.card, shipped)
    monkeypatch.setattr(checkpoint, "_SHIPPED", tmp_path)
    digest = load_checkpoint("ct-denoise").card.weights_sha256
    card = Card(title="low", details={"base": {"weights_sha256": digest}})
    path = save_bundle(tmp_path / "low", card, adapters=adapters_of(tiny_network))
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(load_checkpoint(path, fused=False)(image), tiny_network(image))
    shipped.unlink()
    with pytest.raises(CheckpointError, match="modifies weights that this version does not ship"):
        load_checkpoint(path)


def test_bundles_are_listed_newest_first_and_the_damaged_with_their_problem(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert available_bundles() == []
    for title, created in (("old", "2026-01-01"), ("new", "2026-02-01")):
        card = Card(title=title, created=created, details={"verdict": {"accepted": title == "new"}})
        save_bundle(bundles_folder() / title, card, weights=tiny_network.state_dict())
    (bundles_folder() / "broken.restorerwkv").write_bytes(b"no zip")
    found = available_bundles()
    assert [bundle.card.title for bundle in found] == ["new", "old", "broken"]
    assert [bundle.accepted for bundle in found] == [True, False, False]
    assert [bool(bundle.problem) for bundle in found] == [False, False, True]


def test_the_folder_of_bundles_is_that_of_the_platform(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert bundles_folder().name == "bundles"
    assert "napari-restore-rwkv" in bundles_folder().parts


def forged(bundle, card):
    """The bundle with another card, and digests that fit it."""

    def change(contents):
        import hashlib

        contents["card.json"] = json.dumps(json.loads(contents["card.json"]) | card).encode()
        manifest = json.loads(contents[MANIFEST])
        manifest["files"]["card.json"] = hashlib.sha256(contents["card.json"]).hexdigest()
        contents[MANIFEST] = json.dumps(manifest).encode()

    return rewritten(bundle, change)


@pytest.mark.parametrize(
    "card", [{"title": 5}, {"created": {}}, {"details": {"created": 7}}, {"details": ["x"]}, {"task": "../../x"}]
)
def test_a_hostile_card_does_not_hide_other_bundles(bundle, card):
    hostile = forged(bundle, card)
    os.mkfifo(bundle.with_name("pipe.restorerwkv"))
    bundle.with_name("folder.restorerwkv").mkdir()
    found = {listed.path.name: listed.problem for listed in available_bundles(bundle.parent)}
    assert found["ours.restorerwkv"] == ""
    assert "changed.restorerwkv cannot be used" in found["changed.restorerwkv"]
    assert all("is damaged or was changed" in found[name] for name in ("pipe.restorerwkv", "folder.restorerwkv"))
    with pytest.raises(CheckpointError, match=r"changed\.restorerwkv"):
        load_checkpoint(hostile)


@pytest.mark.parametrize("name", ["../planted", "/planted", "weights.pkl"])
def test_a_bundle_with_a_file_that_bundles_do_not_have_is_refused(bundle, name):
    def add(contents):
        import hashlib

        contents[name] = b"x"
        manifest = json.loads(contents[MANIFEST])
        manifest["files"][name] = hashlib.sha256(b"x").hexdigest()
        contents[MANIFEST] = json.dumps(manifest).encode()

    with pytest.raises(CheckpointError, match="files were added or are missing"):
        load_checkpoint(rewritten(bundle, add))


def test_a_compressed_bundle_is_not_unpacked(bundle):
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (contents | {"before_after.png": b"\0" * (32 << 20)}).items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="damaged or was changed: it cannot be read"):
        load_checkpoint(bundle)


def test_adapters_that_do_not_fit_their_base_are_refused(tiny_network, tmp_path):
    base = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    wide = {"output.bias.up": torch.zeros(20_000, 1), "output.bias.down": torch.zeros(1, 20_000)}
    path = save_bundle(tmp_path / "wide", CARD, adapters=wide, base=base)
    with pytest.raises(CheckpointError, match=r"the adapter of output\.bias does not fit its weights"):
        load_checkpoint(path)
