"""``restore-rwkv train`` and ``reproduce paper``, as a user runs them."""

import json
import pickle

import numpy as np
import pytest
import SimpleITK
from phantom import clean_scan, noisy_scan
from small_training import write_config, write_pairs

from napari_restore_rwkv.commands.cli import main
from napari_restore_rwkv.network.checkpoint import load_checkpoint


@pytest.mark.slow
def test_train_writes_a_bundle_and_says_what_it_scores(tmp_path, capsys):
    write_pairs(tmp_path)
    config = str(write_config(tmp_path))
    assert main(["train", config, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["best_step"] in (2, 4)
    assert load_checkpoint(said["bundle"]).card.details["curve"] == said["card"]["details"]["curve"]
    assert main(["train", config]) == 1
    assert "ours.restorerwkv already exists, and weights are never overwritten" in capsys.readouterr().err


def test_a_wrong_configuration_is_one_sentence(tmp_path, capsys):
    assert main(["train", str(write_config(tmp_path, steps='"many"'))]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "restore-rwkv: steps in [schedule] must be a whole number; got 'many'.\n")


@pytest.fixture
def paper_data(tmp_path):
    """CT as distributed by the paper's authors: training slices pickled, the others as NIfTI, 2-D."""
    for n, part in enumerate(("train", "validation", "test")):
        clean = clean_scan(slices=2, side=136, seed=n)
        for side, scan in (("LQ", noisy_scan(clean, seed=n)), ("HQ", clean)):
            folder = tmp_path / "CT" / part / side
            folder.mkdir(parents=True)
            for z, image in enumerate(np.asarray(scan.voxels, np.float32)):
                if part == "train":
                    (folder / f"{z}.bin").write_bytes(pickle.dumps(image[np.newaxis]))
                else:
                    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image), str(folder / f"{z}.nii"))
    return tmp_path


@pytest.mark.slow
def test_the_paper_is_reproduced_on_its_layout(paper_data, capsys):
    words = ["reproduce", "paper", "--data", str(paper_data), "--task", "ct-denoise"]
    made = paper_data / "made.restorerwkv"
    assert main([*words, "--light", "--steps", "1", "--device", "cpu", "--output", str(made), "--json"]) == 0
    (trained,) = json.loads(capsys.readouterr().out)["measured"]
    assert trained["slices"] == 2
    assert trained["paper"] == {"psnr": 33.80, "ssim": 0.9198, "rmse": 8.36}
    assert main([*words, "--checkpoint", str(made), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == [trained]
    assert main([*words, "--checkpoint", str(made), "--device", "cpu"]) == 0
    assert "33.80" in capsys.readouterr().out


def test_missing_data_are_reported_before_training(tmp_path, capsys):
    assert main(["reproduce", "paper", "--data", str(tmp_path), "--task", "pet-low-count"]) == 1
    assert "PET/test/LQ; the data are expected as PET/train, validation and test" in capsys.readouterr().err
