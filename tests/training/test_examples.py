from dataclasses import replace

import numpy as np
import pytest
import torch
from phantom import clean_scan, noisy_scan, scan_of

from napari_restore_rwkv.scans.lazy import LazyVoxels
from napari_restore_rwkv.training.annotations import HOLD_OUT, IGNORE, KEEP, TRAIN, coverage
from napari_restore_rwkv.training.examples import Examples, loss_of
from napari_restore_rwkv.training.material import Material, check_material

CROPS = ((16, 3),)


def examples_of(material, **options):
    return Examples(check_material(material, "CT", **options), "ct-denoise", crops=CROPS)


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
    assert target.shape == (3, 2, 16, 16)
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
        drawn = Examples(replace(chosen, covered=(coverage(labels),)), "ct-denoise", crops=CROPS)
        results.append(gradients(tiny_network, drawn.draw(np.random.default_rng(5))))
    assert any(gradient.abs().max() > 0 for gradient in results[0])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_batch_of_ignored_pixels_has_no_gradient_at_all(tiny_network, pair, rng):
    given, target = examples_of(pair).draw(rng)
    target[:, 1] = 0
    assert all(not gradient.any() for gradient in gradients(tiny_network, (given, target)))


def test_emphasised_pixels_count_three_times():
    target = torch.zeros(1, 2, 1, 2)
    target[0, 1, 0] = torch.tensor([1.0, 3.0])
    restored = torch.tensor([[[[1.0, 2.0]]]])
    assert loss_of("paired")(restored, target, restored).item() == pytest.approx((1 + 3 * 2) / 4)
    assert loss_of("noisy")(restored, target, restored).item() == pytest.approx((1 + 3 * 4) / 4)


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
    examples = Examples(
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


def test_voxels_that_are_not_numbers_do_not_count(pair, rng):
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
