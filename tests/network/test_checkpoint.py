"""Weights of this project and of the paper's authors are loaded, everything else is refused with a message."""

import json
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_restore_rwkv.errors import CheckpointError
from napari_restore_rwkv.metrics import psnr
from napari_restore_rwkv.network.checkpoint import Card, load_checkpoint, save_checkpoint, shipped_checkpoints
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import restore_slice
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.tasks import TASKS


@pytest.fixture
def image():
    return torch.rand(1, 1, 20, 28)


def in_the_authors_format(network):
    """A state_dict with the leftovers of the authors' code."""
    weights = dict(network.state_dict())
    for name, value in network.state_dict().items():
        if name.endswith("omni_shift.conv5x5.weight"):
            weights[name.replace("conv5x5", "conv5x5_reparam")] = torch.full_like(value, 99.0)
        if name.endswith("att.key.weight"):
            weights[name.replace("key", "dwconv")] = torch.zeros(1)
    return weights


def test_saved_weights_and_card_are_loaded_back(tiny_network, weights_file, image):
    loaded = load_checkpoint(weights_file)
    torch.testing.assert_close(loaded(image), tiny_network(image), rtol=0, atol=1e-6)
    assert (loaded.card.task, loaded.card.modality) == ("ct-denoise", "CT")
    assert len(loaded.card.weights_sha256) == 64
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_loaded_to_train_on_keep_their_gradients(weights_file):
    network = load_checkpoint(weights_file, fused=False)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("prefix", ["", "module.", "base.", "module.base."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "params"])
def test_the_authors_format_is_read_with_its_prefixes_and_wrappers(tiny_network, image, tmp_path, prefix, wrapper):
    weights = {prefix + name: value for name, value in in_the_authors_format(tiny_network).items()}
    path = tmp_path / "authors.pth"
    torch.save({wrapper: weights} if wrapper else weights, path)
    torch.testing.assert_close(load_checkpoint(path)(image), tiny_network(image), rtol=0, atol=1e-6)


def test_wrappers_within_wrappers_and_capitals_in_the_suffix_are_read(tiny_network, weights_file, image, tmp_path):
    torch.save({"model": {"state_dict": tiny_network.state_dict()}}, tmp_path / "nested.pth")
    torch.testing.assert_close(load_checkpoint(tmp_path / "nested.pth")(image), tiny_network(image), rtol=0, atol=1e-6)
    (tmp_path / "TINY.SAFETENSORS").write_bytes(weights_file.read_bytes())
    torch.testing.assert_close(
        load_checkpoint(tmp_path / "TINY.SAFETENSORS")(image), load_checkpoint(weights_file)(image)
    )


@pytest.mark.slow
def test_a_full_checkpoint_of_the_authors_has_1114_keys_and_its_sizes_are_inferred(tmp_path):
    weights = {n: v for n, v in in_the_authors_format(RestoreRWKV.full()).items() if not n.endswith("dwconv.weight")}
    assert len(weights) == 1114
    torch.save(weights, tmp_path / "full.pth")
    loaded = load_checkpoint(tmp_path / "full.pth")
    assert [len(x) for x in (loaded.encoder_level1, loaded.encoder_level2, loaded.latent, loaded.refinement)] == [
        4,
        6,
        8,
        4,
    ]


def test_a_missing_key_is_named(weights_file, tmp_path):
    weights = load_file(weights_file)
    del weights["latent.0.att.key.weight"]
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"w.safetensors is incomplete: latent.0.att.key.weight is missing"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_weights_of_another_network_are_refused(weights_file, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="is not a Restore-RWKV checkpoint"):
        load_checkpoint(path)
    save_file(load_file(weights_file) | {"extra.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"extra.weight is unknown; was it made for another network"):
        load_checkpoint(path)
    save_file(load_file(weights_file) | {"output.bias": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"output.bias has shape \(3,\), not \(1,\)"):
        load_checkpoint(path)
    save_file(load_file(weights_file) | {"output.bias": torch.tensor([torch.nan])}, path)
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        load_checkpoint(path)
    save_file(load_file(weights_file) | {"output.bias": torch.tensor([1])}, path)
    with pytest.raises(CheckpointError, match=r"output.bias contains torch.int64, not real numbers"):
        load_checkpoint(path)
    save_file(load_file(weights_file) | {"latent.3000.ln1.weight": torch.zeros(32)}, path)
    with pytest.raises(CheckpointError, match=r"latent.1.att.key.weight and \d+ more are missing"):
        load_checkpoint(path)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_with_code_in_it_is_refused_and_the_code_never_runs(tmp_path, save):
    trace = tmp_path / "the_code_ran"
    save({"state_dict": Malicious(trace)}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil.pth contains more than weights .* could run code"):
        load_checkpoint(tmp_path / "evil.pth")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_truncated_weights_are_refused(tiny_network, weights_file, tmp_path, name):
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save(tiny_network.state_dict(), path)
    else:
        path.write_bytes(weights_file.read_bytes())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=f"{name} cannot be read as weights"):
        load_checkpoint(path)


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "notes.pth").write_text("hello")
    with pytest.raises(CheckpointError, match=r"notes.pth cannot be read as weights"):
        load_checkpoint(tmp_path / "notes.pth")
    with pytest.raises(CheckpointError, match=r"There is no weights file absent.pth"):
        load_checkpoint(tmp_path / "absent.pth")


def test_weights_without_read_permission_are_named(weights_file, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    # An administrator may read every file, so the refusal is played.
    monkeypatch.setattr("napari_restore_rwkv.network.checkpoint.safetensors_in", refuse)
    with pytest.raises(CheckpointError, match=r"tiny.safetensors cannot be read: permission denied; change"):
        load_checkpoint(weights_file)


def test_weights_that_differ_from_their_card_are_refused(weights_file):
    content = bytearray(weights_file.read_bytes())
    content[-1] ^= 1
    weights_file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not the file that its card tiny.json describes"):
        load_checkpoint(weights_file)


def test_a_task_without_weights_says_what_to_do():
    for task in TASKS.keys() - shipped_checkpoints().keys():
        with pytest.raises(CheckpointError, match=f"no weights for {task} yet .* give --checkpoint FILE"):
            load_checkpoint(task)


def test_shipped_weights_have_a_card_with_data_recipe_and_measurement():
    assert "ct-denoise" in shipped_checkpoints()
    for task, path in shipped_checkpoints().items():
        assert path.stat().st_size < 6e6
        card = load_checkpoint(task).card
        assert card.task == task
        assert card.created
        assert card.intended_use
        assert card.limits
        assert {"training_scans", "validation_scans", "recipe", "curve", "measured"} <= card.details.keys()


def test_the_shipped_ct_weights_beat_a_noisy_slice_of_an_unseen_subject_by_3_db():
    noisy, clean = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz")), read_scan(sample_path("ct_abdomen_dicom"))
    restored = restore_slice(noisy.voxels[9], load_checkpoint("ct-denoise"), choose_intensity(noisy))
    before, after = (psnr(image, clean.voxels[9], window=(-160, 240)) for image in (noisy.voxels[9], restored))
    assert after > before + 3


def test_the_card_stored_is_the_card_given(tiny_network, tmp_path):
    card = Card(title="t", task="mri-sr", modality="MR", details={"a": [1, 2]})
    save_checkpoint(tiny_network, card, tmp_path / "t.safetensors")
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["weights_sha256"]
    assert stored | {"weights_sha256": ""} == card.as_dict()


def test_slices_are_turned_as_the_card_of_the_weights_says(tmp_path, tiny_network):
    for turns, details in ((1, {}), (4, {"turns": 4})):
        path = tmp_path / f"{turns}.safetensors"
        save_checkpoint(tiny_network, Card(title="t", details=details), path)
        assert load_checkpoint(path).turns == turns
        # Training sees every slice once.
        assert load_checkpoint(path, fused=False).turns == 1


def test_slices_have_the_border_that_the_card_of_the_weights_asks_for(tmp_path, tiny_network):
    save_checkpoint(tiny_network, Card(title="t", details={"wrapped_border": 5}), tmp_path / "t.safetensors")
    assert load_checkpoint(tmp_path / "t.safetensors").wrapped_border == 5
    # Training sees crops, whose opposite sides have nothing to do with each other.
    assert load_checkpoint(tmp_path / "t.safetensors", fused=False).wrapped_border == 0


@pytest.mark.parametrize("turns", [0, 5, 10**6, "x", None])
def test_a_card_with_impossible_turns_is_refused(tmp_path, tiny_network, turns):
    path = tmp_path / "odd.safetensors"
    save_checkpoint(tiny_network, Card(title="odd", details={"turns": turns}), path)
    with pytest.raises(CheckpointError, match=f"asks for {turns} quarter turns; 1 to 4 are possible"):
        load_checkpoint(path)


@pytest.mark.slow
def test_loading_weights_leaves_the_compiler_stack_alone():
    code = "import sys, napari_restore_rwkv as ours; ours.load_checkpoint('ct-denoise'); print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    # Either takes a second or more to import.
    assert not {"sympy", "torch._dynamo"} & set(answer.stdout.split())


def test_a_network_owns_its_weights(tmp_path, tiny_network):
    path = tmp_path / "w.safetensors"
    save_checkpoint(tiny_network, Card("tiny"), path)
    loaded = [load_checkpoint(path, fused=False) for _ in range(2)]
    with torch.no_grad():
        loaded[0].output.bias += 1
    assert not torch.equal(loaded[0].output.bias, loaded[1].output.bias)
    assert all(parameter.requires_grad for parameter in loaded[0].parameters())


def test_weights_of_an_earlier_version_are_loaded_by_their_number():
    earlier = load_checkpoint("ct-denoise@1")
    assert earlier.card.task == "ct-denoise"
    assert earlier.context == 0
    with pytest.raises(CheckpointError, match=r"no weights file ct-denoise@99; .*ct-denoise@1"):
        load_checkpoint("ct-denoise@99")
