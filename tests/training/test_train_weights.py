"""The script that trains the shipped weights, with a recipe of a few steps."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train_weights as script
from recipes.recipe import Recipe

from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.training.train import TrainingOptions

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def draw(rng):
    clean = torch.full((1, 1, 16, 16), 0.5)
    return clean + torch.from_numpy(rng.normal(0, 0.1, clean.shape)).float(), clean


@pytest.fixture
def recipe():
    """Five steps; the scores that it gives are 1, 3, 2, ... in the order of the questions."""
    scores = iter([1.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    return Recipe(
        task="ct-denoise",
        stage="test",
        start_from=None,
        options=TrainingOptions(steps=5, warm_up_steps=2),
        training_scans={"scan.nii": "made here"},
        validation_scans={},
        pack=lambda *_: None,
        draw=lambda _: draw,
        watch=lambda _: lambda network: {"score": next(scores)},
        measure=lambda *_: [{"psnr_before": 1.0, "psnr_after": 2.0}],
        what_is_measured="nothing",
        falls_short=lambda rows: "",
        intended_use="none",
        limits="all",
    )


@pytest.fixture(autouse=True)
def qualified(monkeypatch):
    """Replaces `qualify`, which takes minutes and is tested elsewhere."""
    found = SimpleNamespace(table=lambda: "a table", as_dict=lambda: {"lines": ["one"]})

    def qualify(network, *, quick):
        assert quick
        yield from ()
        return found

    monkeypatch.setattr(script, "qualify", qualify)
    return found.as_dict()


def curve(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def weights(path):
    return torch.load(path, weights_only=True)["average"]


def test_a_run_in_pieces_is_bit_identical_to_one_in_one_go(recipe, tmp_path):
    (whole := tmp_path / "whole").mkdir()
    (pieces := tmp_path / "pieces").mkdir()
    script.train(recipe, pieces, minutes=0, device=CPU)
    script.train(recipe, pieces, minutes=0, device=CPU)
    script.train(recipe, pieces, minutes=1e9, device=CPU)
    script.train(recipe, whole, minutes=1e9, device=CPU)
    assert [row["step"] for row in curve(pieces)] == [1, 2, 5]
    mean = np.mean([curve(pieces)[0]["loss"], curve(pieces)[1]["loss"], *[curve(pieces)[2]["loss"]] * 3])
    assert curve(whole)[-1]["loss"] == pytest.approx(mean, rel=1e-12)
    one, other = weights(whole / "state.pt"), weights(pieces / "state.pt")
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_best_weights_are_kept_though_later_ones_are_worse(recipe, tmp_path):
    for _ in range(3):
        script.train(recipe, tmp_path, minutes=0, device=CPU)
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 2
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3


def test_lines_of_the_curve_beyond_the_saved_state_are_dropped(recipe, tmp_path):
    script.train(recipe, tmp_path, minutes=0, device=CPU)
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 7.0, "score": 99.0}\n')
    script.train(recipe, tmp_path, minutes=0, device=CPU)
    assert [row["step"] for row in curve(tmp_path)] == [1, 2]
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 2


def test_a_finished_training_is_left_alone(recipe, tmp_path):
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    before = (tmp_path / "state.pt").read_bytes()
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    assert (tmp_path / "state.pt").read_bytes() == before


def test_what_is_exported_can_be_loaded_and_says_what_it_is(recipe, tmp_path, monkeypatch, qualified):
    monkeypatch.setattr(script, "WEIGHTS", tmp_path)
    (tmp_path / "scan.nii").write_bytes(b"a scan")
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    script.export(recipe, tmp_path, tmp_path)
    exported = tmp_path / "ct-denoise.safetensors"
    assert exported.stat().st_size < 6e6
    card = load_checkpoint(exported).card
    assert (card.task, card.modality) == ("ct-denoise", "CT")
    assert card.details["training_scans"][0]["name"] == "scan.nii"
    assert len(card.details["training_scans"][0]["sha256"]) == 64
    assert card.details["recipe"]["seed"] == 0
    assert card.details["measured"] == {"what": "nothing", "rows": [{"psnr_before": 1.0, "psnr_after": 2.0}]}
    assert card.details["falls_short"] == ""
    assert card.details[script.QUALIFIED] == qualified
    assert card.title == "light"


def test_weights_that_fall_short_are_called_experimental(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "WEIGHTS", tmp_path)
    (tmp_path / "scan.nii").write_bytes(b"a scan")
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    for changed in ({"falls_short": lambda rows: f"the gain is {rows[0]['psnr_after']}"}, {"experimental": True}):
        script.export(replace(recipe, **changed), tmp_path, tmp_path)
        card = load_checkpoint(tmp_path / "ct-denoise.safetensors").card
        assert card.title == "light, experimental"
        assert card.details["falls_short"] == ("the gain is 2.0" if "falls_short" in changed else "")


def test_a_part_of_the_change_is_shipped_where_the_recipe_says_so(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "WEIGHTS", tmp_path)
    (tmp_path / "scan.nii").write_bytes(b"a scan")
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    image, changes = torch.rand(1, 1, 16, 16), []
    for damping in (1.0, 0.7):
        script.export(replace(recipe, damping=damping), tmp_path, tmp_path)
        changes.append(load_checkpoint(tmp_path / "ct-denoise.safetensors")(image) - image)
    assert changes[0].abs().max() > 0
    torch.testing.assert_close(changes[1], 0.7 * changes[0], rtol=1e-4, atol=1e-6)


def test_the_card_states_what_the_unet_of_equal_steps_reaches(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "WEIGHTS", tmp_path)
    (tmp_path / "scan.nii").write_bytes(b"a scan")
    script.train(recipe, tmp_path, minutes=1e9, device=CPU)
    (tmp_path / "unet").mkdir()
    torch.save({"average": script.unet.UNet().state_dict()}, tmp_path / "unet" / "best.pt")
    named = replace(recipe, measure=lambda _, network: [{"network": type(network).__name__}])
    script.export(named, tmp_path, tmp_path)
    measured = load_checkpoint(tmp_path / "ct-denoise.safetensors").card.details["measured"]
    assert measured["rows"] == [{"network": "RestoreRWKV"}]
    assert measured["rows_of_a_unet_of_equal_steps"] == [{"network": "UNet"}]
