"""``restore-rwkv finetune``: a TOML file in, a bundle and a verdict out."""

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused_before_work

from napari_restore_rwkv.commands import training_words
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.scans.files import write_scan

sys.path.insert(0, str(Path(__file__).parent / "training"))
from phantom import clean_scan, noisy_scan

pytestmark = pytest.mark.slow

OPTIONS = "[options]\nsteps = 4\nlearning_rate = 5e-3\nscore_every = 2\n"


@pytest.fixture
def folder(tmp_path, weights_file):
    """A folder with a pair of scans."""
    clean = clean_scan()
    write_scan(clean, tmp_path / "good.nii.gz")
    write_scan(noisy_scan(clean), tmp_path / "noisy.nii.gz")
    return tmp_path


@pytest.fixture
def config(folder, weights_file):
    """Write a config beside the scans, and return its path."""

    def write(text='[[scans]]\ndegraded = "noisy.nii.gz"\ntarget = "good.nii.gz"\n', top="", options=OPTIONS):
        path = folder / "config.toml"
        path.write_text(f'weights = "{weights_file}"\n{top}\n{text}\n{options}', "utf-8")
        return path

    return write


def test_a_pair_ends_in_a_verdict_and_a_bundle_that_restores(run, config, folder):
    top = 'output = "ours.restorerwkv"\nfolder = "state"'
    code, out, _ = run("finetune", config(top=top), "--json", "--device", "cpu")
    assert code == 0
    result = json.loads(out)
    assert result["accepted"], result["reason"]
    assert [row["slice"] for row in result["held_out"]] == result["card"]["details"]["split"][0]["held_out"]
    bundle = folder / "ours.restorerwkv"
    assert result["bundle"] == str(bundle)
    assert load_checkpoint(bundle).card.task == "ct-denoise"
    assert (folder / "state" / "state.pt").is_file()
    words = ["restore", folder / "noisy.nii.gz", folder / "restored.nii.gz", "--checkpoint", bundle]
    assert run(*words)[0] == 0

    refused = run("finetune", config(top=top))
    assert_refused_before_work(refused, "ours.restorerwkv already exists, and weights are never overwritten")


def test_a_useless_training_set_reports_that_old_weights_were_kept(run, config, folder):
    clean = clean_scan()
    write_scan(clean.with_voxels(clean.voxels[:3]), folder / "short.nii.gz")
    text = '[[scans]]\ndegraded = "short.nii.gz"\ntarget = "short.nii.gz"\n'
    code, out, _ = run("finetune", config(text))
    assert code == 0
    assert out.startswith("Kept the old weights: ")


def test_labels_are_used_and_warnings_printed(run, config, folder):
    clean = clean_scan()
    labels = np.zeros(clean.shape, np.int16)
    labels[6], labels[5, :4] = 5, 4
    write_scan(clean.with_voxels(labels, modality=None, unit=""), folder / "labels.nii.gz")
    text = '[[scans]]\ndegraded = "noisy.nii.gz"\ntarget = "good.nii.gz"\nlabels = "labels.nii.gz"\n'
    code, out, err = run("finetune", config(text), "--json")
    assert code == 0
    assert json.loads(out)["card"]["details"]["split"][0]["held_out"] == [6]
    assert err.count("Slice 5 is marked for training, but within 2 slices of a held-out one") == 1


def test_files_of_two_folders_are_paired_by_name(run, config, folder):
    clean = clean_scan(slices=5)
    for side in ("low", "full"):
        (folder / side).mkdir()
    for number in range(5):
        one = clean.with_voxels(np.roll(clean.voxels, 5 * number, axis=1))
        write_scan(noisy_scan(one, seed=number), folder / "low" / f"{number}.nii.gz")
        write_scan(one, folder / "full" / f"{number}.nii.gz")
    text = '[[folders]]\ndegraded = "low"\ntarget = "full"\n'
    code, out, _ = run("finetune", config(text), "--json")
    assert code == 0
    split = json.loads(out)["card"]["details"]["split"]
    assert [bool(one["held_out"]) for one in split] == [False] * 4 + [True]
    (folder / "low" / "4.nii.gz").unlink()
    assert_refused_before_work(run("finetune", config(text)), '"4.nii.gz" is in only one of the two folders')


def test_a_reference_is_degraded_as_strongly_as_another_scan_is_noisy(run, config):
    text = '[[scans]]\ntarget = "good.nii.gz"\nstrength_like = "noisy.nii.gz"\n'
    code, out, _ = run("finetune", config(text, options=OPTIONS + 'task = "ct-denoise"\n'), "--json")
    assert code == 0
    assert json.loads(out)["card"]["details"]["data"][0]["strength"] > 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[scans]]\nnoisy = 1", '[[scans]] has the unknown name "noisy"; use degraded, labels, modality'),
        ("", "must name weights, and scans in [[scans]] or [[folders]]"),
        ("[[scans", "config.toml is not a TOML file"),
        ("a." * 60_000 + "a = 1", "config.toml is not a TOML file: a name in it has too many parts"),
        ('[[scans]]\ndegraded = "missing.nii.gz"', "missing.nii.gz"),
        ('[[folders]]\ntarget = "nowhere"', "A folder in [[folders]] cannot be read"),
    ],
)
def test_an_invalid_config_is_refused(run, config, text, words):
    assert_refused_before_work(run("finetune", config(text)), words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("[options]\nspeed = 3", '[options] has the unknown name "speed"; use adapter_rank'),
        ('[options]\nsteps = "many"', "[options] has a value of the wrong type"),
        ("[options]\nsteps = 0", "Fine-tuning needs 1 step or more; got 0"),
    ],
)
def test_invalid_options_are_refused(run, config, options, words):
    assert_refused_before_work(run("finetune", config(options=options)), words)


def test_a_missing_config_is_refused(run, tmp_path):
    assert_refused_before_work(run("finetune", tmp_path / "no.toml"), "cannot be read: No such file or directory")


def test_the_example_of_the_help_is_a_config_that_is_understood(tmp_path):
    from napari_restore_rwkv.commands.finetune import _options, _read

    example = training_words.EXAMPLE[training_words.EXAMPLE.index("  weights") :]
    for text in (example, re.sub(r"^  # ", "  ", example, flags=re.MULTILINE)):
        path = tmp_path / "example.toml"
        path.write_text(text, "utf-8")
        assert _options(_read(path), "auto").steps == 500


def test_the_sample_config_names_existing_files():
    path = Path(__file__).parent.parent / "scripts" / "finetune_sample.toml"
    config = tomllib.loads(path.read_text("utf-8"))
    assert all((path.parent / scan[side]).exists() for scan in config["scans"] for side in ("degraded", "target"))
