"""The noise of a scan on the command line: what is said about it, and the strength that follows."""

import numpy as np
import pytest
from command_line import restore_words

from napari_restore_rwkv.commands import cli
from napari_restore_rwkv.network.checkpoint import Card, save_checkpoint
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, RestoreRWKV
from napari_restore_rwkv.restoration.suitability import TRAINED_FOR
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan

pytestmark = pytest.mark.slow


@pytest.fixture
def noisy_file(rng, tmp_path):
    path = tmp_path / "noisy.nii.gz"
    write_scan(Scan(rng.normal(40, 60, (3, 96, 96)).astype(np.float32), modality="CT", unit="HU"), path)
    return path


@pytest.fixture
def asking_weights(tmp_path):
    """Weights with context that darken, made for 5 to 30 HU."""
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1, context=CONTEXT_CHANNELS)
    network.output.bias.data.fill_(-0.002)
    card = Card("dark", "ct-denoise", "CT", details={TRAINED_FOR: {"noise": [5, 30], "mean_frequency": [0, 0.5]}})
    save_checkpoint(network, card, tmp_path / "dark.safetensors")
    return tmp_path / "dark.safetensors"


def change(noisy_file, tmp_path):
    return float((read_scan(tmp_path / "restored.nii.gz").voxels - read_scan(noisy_file).voxels).mean())


def test_unfamiliar_noise_is_reported_and_restored_with_caution(run, noisy_file, asking_weights, tmp_path):
    code, _, err = run(*restore_words(noisy_file, asking_weights, tmp_path, "--modality", "CT"))
    assert code == 0, err
    assert "these weights were made for 5 to 30 HU: outside, the classical filter is proposed (--classical)." in err
    assert change(noisy_file, tmp_path) == pytest.approx(-0.6 * 0.002 * 4096, rel=0.01)


def test_a_given_strength_wins(run, noisy_file, asking_weights, tmp_path):
    words = restore_words(noisy_file, asking_weights, tmp_path, "--modality", "CT", "--strength", "0.25")
    assert run(*words)[0] == 0
    assert change(noisy_file, tmp_path) == pytest.approx(-0.25 * 0.002 * 4096, rel=0.01)


@pytest.mark.parametrize("strength", ["1.5", "-0.1", "nan", "much"])
def test_an_impossible_strength_is_a_usage_error(strength, capfd):
    with pytest.raises(SystemExit) as ended:
        cli.main(["restore", "a.nii", "b.nii", f"--strength={strength}"])
    assert ended.value.code == 2
    assert "is not a strength: give a number from 0 to 1" in capfd.readouterr().err
