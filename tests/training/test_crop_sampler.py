from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import clean_scan, noisy_scan, scan_of
from scipy.ndimage import gaussian_filter

from napari_restore_rwkv.restoration.kspace import measured_coefficients
from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.mri import low_resolution
from napari_restore_rwkv.training.annotations import HOLD_OUT, IGNORE, KEEP, TRAIN, coverage
from napari_restore_rwkv.training.crop_sampler import CropSampler, loss_of
from napari_restore_rwkv.training.material import Material, check_material

CROPS = ((16, 3),)


def examples_of(material, **options):
    return CropSampler(check_material(material, "CT", **options), "ct-denoise", crops=CROPS)


def gradients(network, batch, mode="paired"):
    given, target = batch
    network.zero_grad()
    loss_of(mode)(network(given), target, given).backward()
    return [parameter.grad.clone() for parameter in network.parameters()]


def poisoned(scan, numbers):
    voxels = scan.voxels.astype(np.float32)
    voxels[list(numbers)] = np.nan
    return scan.with_voxels(voxels)


def test_a_batch_is_the_same_place_of_both_scans(pair, rng):
    given, target = examples_of(pair).draw(rng)
    assert given.shape == (3, 1, 16, 16)
    assert target.shape == (3, 3, 16, 16)
    difference = (given - target[:, :1]) * 4096
    assert float(difference.std()) == pytest.approx(50, rel=0.2)
    assert float(target[:, 1].min()) == 1


def test_ignored_pixels_add_exactly_nothing_to_the_gradient(tiny_network, pair):
    labels = np.zeros(pair.scan.shape, np.uint8)
    labels[:, :, 10:22] = IGNORE
    absurd = pair.target.voxels.copy()
    absurd[:, :, 10:22] = 3000
    results = []
    for target in (pair.target, pair.target.with_voxels(absurd)):
        # The split, not the comparison of the pair, is what counts here.
        chosen = replace(check_material(pair, "CT"), material=(replace(pair, target=target, labels=labels),))
        drawn = CropSampler(replace(chosen, covered=(coverage(labels),)), "ct-denoise", crops=CROPS)
        results.append(gradients(tiny_network, drawn.draw(np.random.default_rng(5))))
    assert any(gradient.abs().max() > 0 for gradient in results[0])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_batch_of_ignored_pixels_has_no_gradient_at_all(tiny_network, pair, rng):
    given, target = examples_of(pair).draw(rng)
    target[:, 1] = 0
    assert all(not gradient.any() for gradient in gradients(tiny_network, (given, target)))


def test_emphasised_pixels_count_three_times():
    target = torch.zeros(1, 3, 1, 2)
    target[0, 1, 0] = torch.tensor([1.0, 3.0])
    restored = torch.tensor([[[[1.0, 2.0]]]])
    assert loss_of("paired")(restored, target, restored).item() == pytest.approx((1 + 3 * 2) / 4)
    assert loss_of("noisy")(restored, target, restored).item() == pytest.approx((1 + 3 * 4) / 4)


def waves(*frequencies):
    """Cosines along x with a number of cycles in 16 pixels, (1, 1, 16, 16)."""
    turns = torch.arange(16) / 16 * 2 * torch.pi
    return sum(torch.cos(frequency * turns) for frequency in frequencies).expand(1, 1, 16, 16)


@pytest.mark.parametrize(("mode", "size"), [("paired", torch.abs), ("noisy", torch.square)])
def test_errors_of_measured_frequencies_count_a_quarter(mode, size):
    wanted = torch.ones(1, 3, 16, 16)
    wanted[:, 0] = 0
    wanted[:, 2] = torch.from_numpy(measured_coefficients((16, 16), (3, 3)))
    outside, inside = (loss_of(mode)(waves(frequency), wanted, waves(0)).item() for frequency in (5, 2))
    assert outside == pytest.approx(size(waves(5)).mean().item())
    assert inside == pytest.approx(0.2 * size(waves(2)).mean().item())


def test_pixels_that_do_not_count_have_no_gradient_where_frequencies_were_measured(rng):
    wanted = torch.ones(1, 3, 16, 16)
    wanted[:, 1, :, 10:] = 0
    wanted[:, 2] = torch.from_numpy(measured_coefficients((16, 16), (3, 3)))
    restored = torch.from_numpy(rng.normal(0, 1, (1, 1, 16, 16))).requires_grad_()
    loss_of("paired")(restored, wanted, restored).backward()
    assert restored.grad[..., :10].all()
    assert not restored.grad[..., 10:].any()


def test_a_crop_knows_which_frequencies_of_its_slice_were_measured(rng):
    sharp = [gaussian_filter(rng.normal(0, 1, (96, 96)), 0.7) + 2 for _ in range(8)]
    low = [low_resolution(image, 2) for image in sharp]
    low, sharp = (Scan(500 * np.stack(images).astype(np.float32), modality="MR") for images in (low, sharp))
    checked = check_material(Material(low, sharp), "MR")
    given, wanted = CropSampler(checked, "mri-sr", crops=((48, 4),), keeps_measured=True).draw(rng)
    measured = wanted[:, 2].bool()
    assert float(measured.float().mean()) == pytest.approx(1 / 4, abs=0.04)
    power = torch.fft.fft2(given[:, 0] * torch.outer(*2 * [torch.hann_window(48)])).abs().square()
    assert float(power[~measured].sum() / power.sum()) < 0.02
    _, wanted = CropSampler(checked, "mri-sr", crops=((48, 4),)).draw(rng)
    assert not wanted[:, 2].any()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["paired", "noisy", "reference"])
def test_held_out_pixels_never_enter_a_batch(pair, mode):
    split = check_material(pair, "CT").splits[0]
    given, target = (poisoned(scan, split.held_out) for scan in (pair.degraded, pair.target))
    material = {
        "paired": Material(given, target),
        "noisy": Material(given),
        "reference": Material(target=target),
    }[mode]
    read = set()
    voxels = material.scan.voxels

    def recorded(box):
        read.update(range(box[0].start, box[0].stop))
        return voxels[box]

    checked = check_material(material, "CT")
    watched = material.scan.with_voxels(LazyVoxels(voxels.shape, voxels.dtype, recorded))
    name = "target" if mode == "reference" else "degraded"
    examples = CropSampler(
        replace(checked, material=(replace(checked.material[0], **{name: watched}),)), "ct-denoise", crops=CROPS
    )
    read.clear()
    rng = np.random.default_rng(1)
    for _ in range(20 if mode == "reference" else 60):
        for images in examples.draw(rng):
            assert torch.isfinite(images).all()
    assert read
    assert not read & set(split.held_out)


def test_kept_pixels_have_themselves_as_target(pair, rng):
    labels = np.zeros(pair.scan.shape, np.uint8)
    labels[:, :16] = KEEP
    given, target = examples_of(replace(pair, labels=labels)).draw(rng)
    same = given[:, 0] == target[:, 0]
    assert 0 < same.float().mean() < 1


def test_marked_training_pixels_are_the_only_ones_that_count(pair, rng):
    labels = np.zeros(pair.scan.shape, np.uint8)
    labels[2, 4:6, 7:9] = TRAIN
    examples = examples_of(replace(pair, labels=labels))
    assert examples.training_slices == 1
    for _ in range(10):
        weight = examples.draw(rng)[1][:, 1]
        assert all(0 < total <= 4 for total in weight.sum(dim=(1, 2)))


def test_nan_voxels_do_not_count(pair, rng):
    voxels = pair.target.voxels.astype(np.float32)
    voxels[:, ::2] = np.nan
    weight = examples_of(replace(pair, target=pair.target.with_voxels(voxels))).draw(rng)[1][:, 1]
    assert weight.mean() == pytest.approx(0.5)


def test_noisy_slices_learn_from_both_neighbours_where_anatomy_stays(rng):
    still = scan_of(np.broadcast_to(clean_scan().voxels[8], (16, 32, 32)))
    noisy = noisy_scan(still)
    given, target = examples_of(Material(noisy)).draw(rng)
    assert float((given - target[:, :1]).std()) * 4096 == pytest.approx(50 * 1.5**0.5, rel=0.2)
    assert target[:, 1].mean() > 0.95
    jumping = still.voxels.copy()
    jumping[::2, :16] += 900
    weight = examples_of(Material(noisy_scan(scan_of(jumping)))).draw(rng)[1][:, 1]
    assert weight.mean() < 0.9


def test_references_alone_are_degraded_by_simulation(clean, rng):
    weak, strong = (examples_of(Material(target=clean, strength=s)) for s in (0.3, 3.0))
    one, other = (examples.draw(np.random.default_rng(2)) for examples in (weak, strong))
    assert torch.equal(one[1], other[1])
    assert float((one[0] - one[1][:, :1]).std()) < float((other[0] - other[1][:, :1]).std())


def test_the_same_generator_draws_the_same_batch(pair):
    one, other = (examples_of(pair).draw(np.random.default_rng(9)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_marked_hold_out_is_what_is_scored(pair):
    labels = np.zeros(pair.scan.shape, np.uint8)
    labels[8, 3, 3] = HOLD_OUT
    [held] = examples_of(replace(pair, labels=labels)).held_out()
    assert held.index == 8
    np.testing.assert_array_equal(held.degraded, pair.degraded.voxels[8])
    np.testing.assert_array_equal(held.target, pair.target.voxels[8])


def test_slices_along_another_axis_are_cut_across_it(pair, rng):
    examples = examples_of(pair, axis="y")
    assert examples.held_out(1)[0].degraded.shape == (16, 32)
