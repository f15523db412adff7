"""Fine-tuning as a whole, with a tiny network on a small phantom."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import QUICK, clean_scan, everything, noisy_scan, scan_of
from scipy.ndimage import gaussian_filter

from napari_restore_rwkv.errors import CheckpointError, DeviceError, OutputError, ScanError
from napari_restore_rwkv.network.checkpoint import KEEPS_MEASURED, Card, load_checkpoint, save_checkpoint
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import IntensityRule
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.mri import low_resolution
from napari_restore_rwkv.training.acceptance import restored
from napari_restore_rwkv.training.annotations import KEEP
from napari_restore_rwkv.training.bundle import FOLDER_VARIABLE, available_bundles
from napari_restore_rwkv.training.crop_sampler import loss_of
from napari_restore_rwkv.training.fine_tune import fine_tune
from napari_restore_rwkv.training.material import Material
from napari_restore_rwkv.training.memory import bytes_per_pixel, crops_that_fit
from napari_restore_rwkv.training.options import STOP, FineTuneOptions, Weights
from napari_restore_rwkv.training.outcome import blended_network

pytestmark = pytest.mark.slow


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_pair_improves_its_held_out_slices_and_is_accepted(tuned):
    outcome = tuned[1]
    assert outcome.accepted, outcome.verdict.reason
    gains = [row.after.psnr - row.before.psnr for row in outcome.rows]
    assert np.mean(gains) > 1
    assert [row.slice for row in outcome.rows] == list(outcome.card.details["split"][0]["held_out"])
    assert outcome.picture.startswith(b"\x89PNG")


def test_an_evaluation_reports_its_progress_and_weights(tuned):
    scorings = [record.scoring for record in tuned[0] if record.scoring is not None]
    assert list(dict.fromkeys(scoring.weights for scoring in scorings)) == [Weights.OLD, Weights.CURRENT, Weights.NEW]
    old = [scoring for scoring in scorings if scoring.weights is Weights.OLD]
    assert [scoring.done for scoring in old] == list(range(1, old[0].total + 1))


def test_every_step_reports_loss_and_score_beside_the_initial_score(tuned):
    records, outcome = tuned
    steps = [record for record in records if record.scoring is None]
    assert [record.step for record in steps] == list(range(1, 31))
    assert all(np.isfinite(record.loss) and record.seconds_left >= 0 for record in steps)
    assert [record.step for record in steps if record.score] == [10, 20, 30]
    assert all(record.start == steps[0].start for record in steps)
    assert [entry["step"] for entry in outcome.curve] == [10, 20, 30]
    assert outcome.card.details["best_step"] in (10, 20, 30)


def test_training_on_noisy_slices_alone_improves_on_the_unseen_truth(weights_file):
    clean = scan_of(np.repeat(clean_scan().voxels[::4], 5, axis=0))
    noisy = noisy_scan(clean)
    outcome = finish(fine_tune(weights_file, Material(noisy), QUICK))
    assert outcome.verdict.after.psnr > outcome.verdict.before.psnr
    assert not outcome.accepted, "without a reference the person decides"
    assert "that is an estimate from neighbouring slices" in outcome.verdict.reason
    z = outcome.rows[0].slice
    errors = [
        np.abs(restored(outcome.network(amount), noisy.voxels[z], WINDOW) - clean.voxels[z]).mean() for amount in (0, 1)
    ]
    assert errors[1] < 0.9 * errors[0]


WINDOW = IntensityRule("ct-hu", -1024, 3072, "HU")


def test_a_reference_alone_learns_from_simulated_noise(weights_file, clean):
    options = replace(QUICK, steps=20)
    outcome = finish(fine_tune(weights_file, Material(target=clean, strength=3.0), options))
    assert outcome.card.details["mode"] == "reference"
    assert outcome.card.details["data"][0]["strength"] == 3.0
    assert outcome.accepted, outcome.verdict.reason


def test_voxels_marked_4_change_by_less_than_half_as_much(weights_file, clean):
    # Bright above and dark below, so that the network can tell them apart.
    voxels = clean.voxels.copy()
    voxels[:, :16] += 900
    target = scan_of(voxels)
    noisy = noisy_scan(target)
    labels = np.zeros(noisy.shape, np.uint8)
    labels[:, :16] = KEEP
    changes = {}
    for name, marked in (("free", None), ("kept", labels)):
        outcome = finish(
            fine_tune(weights_file, Material(noisy, target, marked), replace(QUICK, steps=60, score_every=60))
        )
        given = noisy.voxels[13].astype(np.float32)
        change = np.abs(restored(outcome.network(1), given, WINDOW) - given)
        changes[name] = change[2:14].mean(), change[18:30].mean()
    assert changes["kept"][0] < 0.5 * changes["free"][0]
    # What is not marked is held back less.
    assert changes["kept"][1] / changes["free"][1] > changes["kept"][0] / changes["free"][0]


USELESS = {
    "shuffled pairs": "do not belong together",
    "constant images": "nothing can be measured",
    "three slices": "3 slices cannot be split",
    "all held out": "no slice is left to train on",
    "same as its reference": "identical to their reference",
}


@pytest.mark.parametrize("case", USELESS)
def test_a_useless_set_keeps_the_old_weights_with_the_reason(case, weights_file, pair, clean):
    flat = scan_of(np.full(clean.shape, 7))
    material = {
        "shuffled pairs": Material(
            scan_of(pair.degraded.voxels[np.random.default_rng(0).permutation(clean.shape[0])]), clean
        ),
        "constant images": Material(flat, flat),
        "three slices": Material(scan_of(pair.degraded.voxels[:3]), scan_of(clean.voxels[:3])),
        "all held out": replace(pair, labels=np.full(clean.shape, 5)),
        "same as its reference": Material(clean, clean),
    }[case]
    outcome = finish(fine_tune(weights_file, material, replace(QUICK, force=True)))
    assert not outcome.accepted
    assert outcome.verdict.reason.startswith("Kept the old weights: ")
    assert USELESS[case] in outcome.verdict.reason
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(outcome.network()(image), load_checkpoint(weights_file)(image))
    with pytest.raises(CheckpointError, match="There are no new weights to save"):
        outcome.save()


def test_a_training_that_makes_it_worse_keeps_the_old_weights(clean, tmp_path):
    # The held-out slices are almost clean, and training teaches to blur.
    blurred = scan_of((clean.voxels + np.roll(clean.voxels, 1, 1) + np.roll(clean.voxels, -1, 1)) / 3)
    held = [11, 12, 13]
    target = scan_of(np.where(np.isin(np.arange(16), held)[:, None, None], clean.voxels, blurred.voxels))
    labels = np.zeros(clean.shape, np.uint8)
    labels[held] = 5
    torch.manual_seed(0)
    identity = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1)
    weights_file = tmp_path / "identity.safetensors"
    save_checkpoint(identity, Card("identity", task="ct-denoise", modality="CT"), weights_file)
    outcome = finish(fine_tune(weights_file, Material(noisy_scan(clean, 1), target, labels), QUICK))
    assert not outcome.accepted
    assert "at no step did the held-out slices score better" in outcome.verdict.reason
    assert outcome.card.details["best_step"] == 0
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(outcome.network()(image), load_checkpoint(weights_file)(image))
    assert not torch.equal(outcome.network(1)(image), load_checkpoint(weights_file)(image))


def test_held_out_voxels_do_not_affect_the_trained_weights(weights_file, pair):
    results = []
    for value in (None, 20):
        labels = np.zeros(pair.scan.shape, np.uint8)
        labels[12] = 5
        scans = []
        for scan in (pair.degraded, pair.target):
            voxels = scan.voxels.copy()
            if value is not None:
                voxels[12] = voxels[12][::-1] + value
            scans.append(scan_of(voxels))
        steps = fine_tune(weights_file, Material(*scans, labels), replace(QUICK, steps=8, score_every=100))
        losses = [record.loss for record in everything(steps)[0] if record.scoring is None]
        results.append(losses)
    assert results[0] == results[1]


def test_an_interrupted_run_ends_with_the_same_weights(weights_file, pair, tmp_path, tuned):
    undisturbed = tuned[1]
    run = fine_tune(weights_file, pair, QUICK, folder=tmp_path / "work")
    while next(run).step < 17:
        pass
    run.close()
    records, outcome = everything(fine_tune(weights_file, pair, QUICK, folder=tmp_path / "work"))
    assert min(record.step for record in records if record.step) >= 17
    assert same(outcome.new, undisturbed.new)
    assert outcome.curve == undisturbed.curve
    assert outcome.rows == undisturbed.rows


def test_a_folder_of_another_fine_tuning_is_refused(weights_file, pair, tmp_path):
    run = fine_tune(weights_file, pair, QUICK, folder=tmp_path)
    while next(run).step < 1:
        pass
    run.close()
    with pytest.raises(CheckpointError, match="contains another training, which differs in options, scans"):
        finish(fine_tune(weights_file, replace(pair, strength=2.0), replace(QUICK, seed=1), folder=tmp_path))


def test_stop_keeps_the_best_so_far(weights_file, pair):
    run = fine_tune(weights_file, pair, QUICK)
    while next(run).step < 15:
        pass
    run.send(STOP)
    records, outcome = everything(run)
    assert max(record.step for record in records) == 16
    assert outcome.card.details["best_step"] in (10, 16)
    assert outcome.accepted


def test_a_preview_is_the_slice_restored_so_far(weights_file, pair):
    run = fine_tune(weights_file, pair, QUICK)
    while next(run).step < 2:
        pass
    early = run.send(5).preview
    assert early.index == 5
    np.testing.assert_array_equal(early.degraded, pair.degraded.voxels[5])
    while (record := next(run)).step < 25:
        assert record.preview is None
    late = run.send(5).preview
    errors = [np.abs(shown.restored - pair.target.voxels[5]).mean() for shown in (early, late)]
    assert errors[1] < errors[0]
    run.close()


def test_adapters_leave_the_weights_alone_and_improve_as_well(weights_file, pair, tmp_path):
    options = replace(QUICK, adapter_rank=4, learning_rate=1e-2, steps=60, score_every=20)
    outcome = finish(fine_tune(weights_file, pair, options))
    assert outcome.accepted, outcome.verdict.reason
    assert outcome.card.details["trained"] == "adapters of rank 4"
    changed = {name for name in outcome.new if not torch.equal(outcome.new[name], outcome.old[name])}
    assert changed
    assert all(name.endswith(("key.weight", "value.weight", "receptance.weight", "output.weight")) for name in changed)
    loaded = load_checkpoint(outcome.save(tmp_path / "low"), fused=False)
    assert same(loaded.state_dict(), outcome.new)


def test_a_bundle_records_everything_but_names(tuned, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    outcome = tuned[1]
    path = outcome.save()
    [listed] = available_bundles()
    assert listed.path == path
    assert listed.accepted
    card = load_checkpoint(path).card
    assert (card.task, card.modality) == ("ct-denoise", "CT")
    details = card.details
    assert details["base"]["weights_sha256"] != card.weights_sha256
    assert len(details["data"][0]["degraded_sha256"]) == 64
    assert details["seed"] == 0
    # What is restored without a bundle says the same digest of its weights.
    assert outcome.network(1).card.weights_sha256 == card.weights_sha256
    assert details["held_out"]["window"] == [-160, 240]
    assert {"split", "curve", "versions", "options", "verdict", "created"} <= details.keys()
    assert "tiny.safetensors" not in json.dumps(card.as_dict())


def test_new_weights_and_blends_run_as_the_card_of_the_old_ones_says(tiny_network, pair, tmp_path):
    path = tmp_path / "turning.safetensors"
    details = {"turns": 3, "wrapped_border": 4}
    save_checkpoint(tiny_network, Card(title="t", task="ct-denoise", modality="CT", details=details), path)
    outcome = everything(fine_tune(path, pair, replace(QUICK, steps=2)))[1]
    bundle = outcome.save(tmp_path / "turning")
    loaded = [load_checkpoint(bundle), blended_network(path, bundle, 0.5), blended_network(path, bundle, 0)]
    made = [outcome.network(amount) for amount in (0, 0.5, 1)]
    assert [(network.turns, network.wrapped_border) for network in loaded + made] == [(3, 4)] * 6


def test_a_blend_lies_between_old_and_new(tuned, weights_file, tmp_path):
    outcome = tuned[1]
    old, half, new = (outcome.network(amount) for amount in (0, 0.5, 1))
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(old(image), load_checkpoint(weights_file)(image))
    assert torch.equal(new(image), outcome.network()(image))
    bundle = outcome.save(tmp_path / "ours")
    assert torch.equal(blended_network(weights_file, bundle, 0.5)(image), half(image))
    assert torch.equal(load_checkpoint(outcome.save(tmp_path / "half", amount=0.5))(image), half(image))
    with pytest.raises(CheckpointError, match="was not made from these weights"):
        blended_network(bundle, bundle, 0.5)
    with pytest.raises(OutputError, match="never overwritten"):
        outcome.save(bundle)


def test_a_shifted_pair_is_refused_unless_forced(weights_file, pair):
    shifted = replace(pair, degraded=scan_of(np.roll(pair.degraded.voxels, 3, axis=2)))
    with pytest.raises(ScanError, match=r"shifted relative to its reference by -?0\.\d rows and (2\.9|3\.\d) columns"):
        next(fine_tune(weights_file, shifted, QUICK))
    record = next(fine_tune(weights_file, shifted, replace(QUICK, force=True)))
    assert record.warnings[0].endswith("forced.")


def test_noise_that_slices_share_is_refused_unless_forced(weights_file, rng):
    noise = rng.normal(0, 50, (18, 64, 64))
    shared = scan_of(noise[2:] + noise[1:-1] + noise[:-2] + 40)
    with pytest.raises(ScanError, match=r"The noise of neighbouring slices is correlated \(1\.00, and 0\.6"):
        next(fine_tune(weights_file, Material(scan_of(np.repeat(shared.voxels, 2, axis=0))), QUICK))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda pair: Material(), ScanError, "There is nothing to train on: give a degraded scan"),
        (lambda pair: [], ScanError, "give at least one scan"),
        (lambda pair: [pair, Material(pair.degraded)], ScanError, "Some scans have a reference and others do not"),
        (lambda pair: replace(pair, labels=np.zeros((2, 2, 2), int)), ScanError, "give labels on the grid of the scan"),
        (
            lambda pair: Material(scan_of(pair.degraded.voxels, modality="MR")),
            CheckpointError,
            "made for CT, but this scan is MR; choose weights for MR",
        ),
    ],
)
def test_material_that_does_not_fit_is_refused(change, error, words, weights_file, pair):
    with pytest.raises(error, match=words):
        next(fine_tune(weights_file, change(pair), QUICK))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "1 step or more; got 0"),
        ({"learning_rate": 1.0}, "up to 0.01; got 1"),
        ({"adapter_rank": 99}, "must be 1 to 64, or 0 for all weights; got 99"),
        ({"task": "colour"}, 'no task "colour"; choose one of ct-denoise'),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ScanError, match=words):
        FineTuneOptions(**options)


def test_crops_are_as_many_as_fit_into_memory(tiny_network):
    tiny_network.requires_grad_(True)
    needed = bytes_per_pixel(tiny_network)
    crops, plane = ((16, 4), (32, 2), (0, 1)), (64, 64)
    assert crops_that_fit(tiny_network, crops, plane, 1 << 40) == crops
    enough_for_32 = int(1.6 * needed * 33 * 33 / 0.6)
    assert crops_that_fit(tiny_network, crops, plane, enough_for_32) == ((16, 4), (32, 1))
    with pytest.raises(DeviceError, match=r"One training step of 16 x 16 pixels needs about .* GB .* close other"):
        crops_that_fit(tiny_network, crops, plane, 1000)


def test_a_nan_loss_ends_with_the_old_weights(weights_file, pair, monkeypatch):
    from napari_restore_rwkv.training import fine_tune as module

    monkeypatch.setattr(module, "loss_of", lambda mode: lambda restored, target, given: restored.mean() * torch.nan)
    outcome = finish(fine_tune(weights_file, pair, QUICK))
    assert not outcome.accepted
    assert "the loss of step 1 was NaN or infinite" in outcome.verdict.reason


@pytest.mark.parametrize("keeps", [True, False])
def test_weights_with_data_consistency_learn_the_other_frequencies(tiny_network, tmp_path, rng, monkeypatch, keeps):
    from napari_restore_rwkv.training import fine_tune as module

    drawn = []

    def watched(mode):
        def loss(restored, wanted, given):
            drawn.append(wanted[:, 2].mean().item())
            return loss_of(mode)(restored, wanted, given)

        return loss

    monkeypatch.setattr(module, "loss_of", watched)
    sharp = np.stack([gaussian_filter(rng.normal(500, 100, (64, 64)), 0.7) for _ in range(12)])
    low = np.stack([low_resolution(image, 2) for image in sharp])
    pair = Material(*(Scan(voxels.astype(np.float32), modality="MR") for voxels in (low, sharp)))
    path = tmp_path / "mr.safetensors"
    save_checkpoint(tiny_network, Card(title="t", task="mri-sr", modality="MR", details={KEEPS_MEASURED: keeps}), path)
    finish(fine_tune(path, pair, replace(QUICK, steps=2, score_every=2)))
    assert drawn
    assert all(share == pytest.approx(1 / 4 if keeps else 0, abs=0.08) for share in drawn)
