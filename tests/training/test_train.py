from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.training.train import Trainer, TrainingOptions, one_batch

OPTIONS = TrainingOptions(steps=12, warm_up_steps=3, learning_rate=5e-3)


def draw(rng):
    """Noise around a constant: the network can learn to remove it."""
    clean = torch.full((2, 1, 16, 16), 0.5)
    return clean + torch.from_numpy(rng.normal(0, 0.1, clean.shape)).float(), clean


def trainer(options=OPTIONS):
    torch.manual_seed(1)
    return Trainer(RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1), one_batch(draw, options.seed), options)


@pytest.mark.slow
def test_training_lowers_the_loss():
    losses = [step.loss for step in trainer(TrainingOptions(steps=40, warm_up_steps=5, learning_rate=5e-3)).run()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.slow
def test_a_resumed_run_is_bit_identical_to_an_undisturbed_one(tmp_path):
    undisturbed = trainer()
    losses = [step.loss for step in undisturbed.run()]

    interrupted = trainer()
    before = [next(run).loss for run in [interrupted.run()] for _ in range(5)]
    interrupted.save(tmp_path / "state.pt")
    resumed = trainer()
    resumed.resume(tmp_path / "state.pt")
    assert resumed.step == 5
    assert before + [step.loss for step in resumed.run()] == losses
    for name, value in undisturbed.average.items():
        assert torch.equal(value, resumed.average[name])


def test_other_options_are_refused_at_resume(tmp_path):
    trainer().save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state.pt was saved with .*'steps': 12.* start over"):
        trainer(TrainingOptions(steps=99)).resume(tmp_path / "state.pt")


@pytest.mark.slow
def test_the_rate_rises_then_falls_to_its_end():
    rates = [step.learning_rate for step in trainer().run()]
    assert rates[2] == pytest.approx(5e-3)
    assert rates[0] < rates[1] < rates[2]
    assert all(a >= b for a, b in pairwise(rates[2:]))
    assert rates[-1] < 0.05 * rates[2]


@pytest.mark.slow
def test_the_averaged_network_leaves_the_trained_one_alone():
    training = trainer()
    list(training.run())
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    image = torch.rand(1, 1, 16, 16)
    assert not torch.equal(training.network.fused(training.average)(image), training.network(image))
    assert all(torch.equal(value, before[name]) for name, value in training.network.state_dict().items())
