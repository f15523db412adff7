"""Every wrong configuration of a training is refused in one clear sentence."""

import math
import shutil

import pytest
from small_training import write_config, write_pairs

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.training.config import Schedule, Source, TrainConfig, read_config
from napari_restore_rwkv.training.folders import training_and_validation


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": '"many"'}, r"steps in \[schedule\] must be a whole number; got 'many'"),
        ({"steps": "true"}, r"steps in \[schedule\] must be a whole number; got True"),
        ({"steps": "0"}, r"steps must be from 1 to 1,000,000,000; got 0"),
        ({"learning_rate": "3.0"}, r"The learning rate must be above 0 and up to 0.1"),
        ({"crop": "4"}, r"crop must be from 8 to 4,096; got 4"),
        ({"batch": "1_000_000_000"}, r"batch must be from 1 to 4,096; got 1,000,000,000"),
        ({"channels": "1000"}, r"at most 512 channels and 64 blocks per level"),
        ({"blocks": "[1, 1, 1000, 1]"}, r"at most 512 channels and 64 blocks per level"),
        ({"target": '"' + "x" * 5000 + '"'}, r"target in \[\[data\]\] has 5000 characters; at most 1024 are possible"),
        ({"target": '"a\\u0000b"'}, r"config.toml is not a TOML file: a text in it contains the character 0"),
        ({"blocks": '"four"'}, r"blocks in \[network\] must be a list; got 'four'"),
        ({"blocks": '[1, 1, 1, "two"]'}, r"every entry of blocks in \[network\] must be a whole number; got 'two'"),
        ({"blocks": "[1, 1]"}, r"A network of custom size needs channels, four blocks, and refinement"),
        ({"channels": None}, r"A network of custom size needs channels, four blocks, and refinement"),
        ({"task": '"ct-sharpen"'}, r"task must be one of ct-denoise, .*; got 'ct-sharpen'"),
        ({"degraded": None, "task": None}, r"full has only references, whose degradation is simulated: give a task"),
        ({"target": None}, r"Every source needs a target"),
        ({"folder": "3"}, r"folder in config.toml must be the name of a file or folder; got 3"),
    ],
)
def test_a_wrong_value_is_named_with_the_allowed_ones(tmp_path, changes, words):
    with pytest.raises(ScanError, match=words):
        read_config(write_config(tmp_path, **changes))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour = 1", r'config.toml has the unknown name "colour"; use device, folder, output, protocol'),
        ('protocol = "mine"', r"protocol must be one of ours, paper; got 'mine'"),
        ("data = 1", r"data must be a list of tables: write \[\[data\]\]"),
        ("network = 1", r"\[network\] must contain names with values, not 1"),
        ("nonsense", r"config.toml is not a TOML file"),
        ("a = " + "[" * 100_000, r"config.toml is not a TOML file: it is nested too deeply"),
        ("learning_rate = 1" + "0" * 4000, r"config.toml is not a TOML file: a whole number in it has more than 64"),
    ],
)
def test_a_wrong_name_is_named_with_the_allowed_ones(tmp_path, line, words):
    path = tmp_path / "config.toml"
    path.write_text(line + "\n")
    with pytest.raises(ScanError, match=words):
        read_config(path)


def test_a_missing_file_and_missing_training_data_are_reported(tmp_path):
    with pytest.raises(ScanError, match=r"none.toml cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(ScanError, match=r"There is nothing to train on"):
        read_config(tmp_path / "empty.toml")


def test_what_is_written_is_shown_with_its_whole_path(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    path = write_config(tmp_path / "configs", folder='"../state"', output='"../ours.restorerwkv"')
    monkeypatch.chdir(tmp_path)
    config = read_config(path.relative_to(tmp_path))
    assert (config.folder, config.output) == (tmp_path / "state", tmp_path / "ours.restorerwkv")


def test_names_are_relative_to_the_file_and_shipped_weights_are_not(tmp_path):
    text = '[[data]]\ntarget = "full"\ntask = "mri-sr"\n[network]\nweights = "{}"\n'
    path = tmp_path / "config.toml"
    path.write_text(text.format("mri-sr"))
    config = read_config(path)
    assert config.data[0].target == tmp_path / "full"
    assert config.network.weights == "mri-sr"
    path.write_text(text.format("mine.restorerwkv"))
    assert read_config(path).network.weights == str(tmp_path / "mine.restorerwkv")


def found(folder):
    return training_and_validation(read_config(write_config(folder)))


def test_pairs_are_found_by_name_and_every_tenth_is_kept_for_validation(tmp_path):
    write_pairs(tmp_path, scans=1)
    for name in ("low", "full"):
        for n in range(1, 11):
            shutil.copy(tmp_path / name / "0.nii", tmp_path / name / f"scan{n:02d}.nii")
    (tmp_path / "low" / "notes.txt").write_text("not a scan")
    training, validation = found(tmp_path)
    assert (len(training), [pair.target.name for pair in validation]) == (10, ["scan09.nii"])
    assert all(pair.degraded.name == pair.target.name for pair in training)
    assert {pair.modality for pair in training} == {"CT"}


def test_folders_that_do_not_match_are_reported(tmp_path):
    with pytest.raises(ScanError, match=r"full does not exist; correct its name"):
        found(tmp_path)
    write_pairs(tmp_path, scans=1)
    with pytest.raises(ScanError, match=r"full contains one scan, which cannot serve for training and validation"):
        found(tmp_path)
    shutil.copy(tmp_path / "full" / "0.nii", tmp_path / "full" / "1.nii")
    with pytest.raises(ScanError, match=r'"1" is only in .*full; give the degraded scans and their targets the same'):
        found(tmp_path)
    for file in (tmp_path / "full").iterdir():
        file.rename(file.with_suffix(".txt"))
    with pytest.raises(ScanError, match=r"full contains no scans"):
        found(tmp_path)


@pytest.mark.parametrize("name", ["weight_decay", "warm_up_steps", "readers", "seed"])
def test_numbers_that_are_not_in_a_file_are_bounded_as_well(tmp_path, name):
    with pytest.raises(ScanError, match=rf"{name} must be from 0 to [0-9,]+; got (nan|-1)"):
        TrainConfig(
            (Source(target=tmp_path, degraded=tmp_path),),
            schedule=Schedule(**{name: math.nan if name == "weight_decay" else -1}),
        )
