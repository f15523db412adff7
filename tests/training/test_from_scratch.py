"""Training on folders as a whole, with a tiny network."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import clean_scan, everything
from small_training import write_config, write_pairs

from napari_restore_rwkv.errors import CheckpointError, ScanError
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.files import write_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.training.config import Network, read_config
from napari_restore_rwkv.training.from_scratch import train
from napari_restore_rwkv.training.options import STOP

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path):
    write_pairs(tmp_path)
    return read_config(write_config(tmp_path))


def longer(config, **schedule):
    return replace(config, folder=None, schedule=replace(config.schedule, **schedule))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_new_network_learns_to_restore_scans_it_never_saw_and_becomes_a_bundle(config, tmp_path):
    steps, trained = everything(train(longer(config, steps=24, score_every=8, batch=4)))
    scores = [step.score.psnr for step in steps if step.score]
    assert len(scores) == 3
    assert trained.score.psnr == pytest.approx(max(scores))
    assert trained.score.psnr > scores[0]
    network = load_checkpoint(trained.save(tmp_path / "ours"))
    assert (network.card.task, network.card.modality) == ("ct-denoise", "CT")
    details = network.card.details
    assert details["data"] == {
        "training_scans": {"ct-denoise, paired": 2},
        "validation_scans": {"ct-denoise, paired": 1},
    }
    assert details["schedule"]["steps"] == 24
    assert [entry["step"] for entry in details["curve"]] == [8, 16, 24]
    assert "name" not in details["validation"]["rows"][0]
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(image), trained.network()(image))


def test_an_interrupted_training_resumes_to_the_same_bits_and_curves(config, tmp_path):
    undisturbed = finish(train(replace(config, folder=tmp_path / "other")))
    steps = train(config)
    while (step := next(steps)).scoring is not None or step.step != 3:
        pass
    steps.close()
    resumed, trained = everything(train(config))
    assert next(step for step in resumed if step.scoring is None).step == 4
    assert same(trained.weights, undisturbed.weights)
    assert trained.curve == undisturbed.curve
    curves = [(folder / "curve.csv").read_text() for folder in (config.folder, tmp_path / "other")]
    assert curves[0] == curves[1]
    rows = list(csv.DictReader(curves[0].splitlines()))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_a_folder_with_another_training_is_refused(config):
    finish(train(config))
    with pytest.raises(CheckpointError, match="contains another training, which differs in crops"):
        next(train(replace(config, schedule=replace(config.schedule, flips=False))))


def test_accumulated_batches_are_one_larger_batch(config):
    whole = finish(train(longer(config, steps=2, batch=4)))
    added_up = finish(train(longer(config, steps=2, batch=2, accumulate=2)))
    for name, value in whole.weights.items():
        assert torch.linalg.vector_norm(added_up.weights[name] - value) <= 1e-6 * torch.linalg.vector_norm(value), name


def test_reading_ahead_changes_nothing(config):
    assert same(finish(train(config)).weights, finish(train(longer(config, readers=2))).weights)


def test_bfloat16_trains_float32_weights(config):
    weights = finish(train(longer(config, precision="bfloat16"))).weights
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert not same(weights, finish(train(longer(config))).weights)


def test_stop_keeps_the_best_so_far(config):
    steps = train(longer(config, steps=1000, score_every=1000))
    next(steps)
    steps.send(STOP)
    assert finish(steps).card.details["best_step"] == 2


def test_training_continues_from_weights(config, tmp_path):
    bundle = finish(train(config)).save(tmp_path / "first")
    onwards = longer(replace(config, network=Network(weights=str(bundle))), learning_rate=1e-9, final_learning_rate=0.0)
    trained = finish(train(onwards))
    for name, value in load_checkpoint(bundle, fused=False).state_dict().items():
        torch.testing.assert_close(trained.weights[name], value, rtol=0, atol=1e-6)
    assert trained.card.details["base"]["title"] == load_checkpoint(bundle).card.title


def test_references_are_degraded_and_tasks_are_mixed(config, tmp_path):
    write_scan(Scan(np.abs(clean_scan(4, 24).voxels), (3.0, 1.0, 1.0), modality="MR"), tmp_path / "mr.nii")
    (one,) = config.data
    mr = replace(one, degraded=None, target=tmp_path / "mr.nii", task="mri-sr", strength=(2.0, 3.0), share=3.0)
    both = longer(replace(config, data=(one, mr), validation=(one, mr)), score_slices=4)
    trained = finish(train(both))
    assert trained.card.task == "all-in-one"
    assert trained.card.details["data"]["training_scans"] == {"ct-denoise, paired": 3, "mri-sr, simulated": 1}


def test_curves_go_to_tensorboard(config):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    finish(train(replace(config, tensorboard=True)))
    events = EventAccumulator(str(config.folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("validation/psnr")] == [2, 4]


def test_a_strength_out_of_range_is_refused_before_the_first_step(config):
    (one,) = config.data
    with pytest.raises(ScanError, match=r"The strength of ct-denoise .* must be from 0.05 to 5; got 1 to 9"):
        next(train(longer(replace(config, data=(replace(one, degraded=None, strength=(1.0, 9.0)),)))))


def test_scans_of_another_shape_than_their_target_are_named(config, tmp_path):
    write_scan(clean_scan(slices=4, side=16), tmp_path / "low" / "0.nii")
    with pytest.raises(
        ScanError, match=r"0.nii: The degraded scan has 4 x 16 x 16 voxels and its reference 4 x 24 x 24"
    ):
        finish(train(longer(config)))
