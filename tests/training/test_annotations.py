import numpy as np
import pytest

from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.training.annotations import (
    EMPHASISE,
    GAP,
    HOLD_OUT,
    IGNORE,
    KEEP,
    PALETTE,
    TRAIN,
    Split,
    coverage,
    leakage,
    plan_split,
    plan_splits,
    weights_of,
)


def labels_with(**slices):
    labels = np.zeros((20, 4, 5), np.uint8)
    for name, numbers in slices.items():
        labels[numbers, 1:3, 1:3] = {"train": TRAIN, "keep": KEEP, "hold": HOLD_OUT}[name]
    return labels


def test_coverage_counts_slices_and_pixels_of_each_class():
    covered = coverage(labels_with(train=[2, 3], hold=[10]))
    assert (covered.slices[TRAIN], covered.pixels[TRAIN]) == (2, 8)
    assert (covered.slices[HOLD_OUT], covered.pixels[HOLD_OUT]) == (1, 4)
    assert covered.slices[IGNORE] == covered.pixels[IGNORE] == 0
    assert covered.slices_with(TRAIN, HOLD_OUT) == {2, 3, 10}


def test_coverage_follows_the_axis_of_the_slices():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[:, :, 2] = TRAIN
    assert coverage(labels, axis=2).slices[TRAIN] == 1


def test_a_label_without_a_meaning_is_refused():
    with pytest.raises(ScanError, match=r"Slice 0 has the unknown label 9; use 1 train .*5 hold out"):
        coverage(np.full((1, 2, 2), 9))


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(ScanError, match="Labels must be integers, got float64"):
        coverage(np.zeros((1, 2, 2)))


@pytest.mark.parametrize("count", [7, 9, 20, 60, 300])
def test_unmarked_scans_are_split_into_blocks_with_a_gap(count):
    split = plan_split(count)
    assert split.training
    assert split.held_out == tuple(range(split.held_out[0], split.held_out[-1] + 1))
    assert min(abs(t - h) for t in split.training for h in split.held_out) > GAP
    assert sorted(split.training + split.held_out + split.between) == list(range(count))


@pytest.mark.parametrize("count", [1, 3, 6])
def test_few_slices_cannot_be_split(count):
    assert plan_split(count).held_out == ()


def test_slices_marked_5_are_held_out_and_their_neighbours_left_out():
    split = plan_split(20, coverage(labels_with(hold=[8, 9])))
    assert split.held_out == (8, 9)
    assert split.between == (6, 7, 10, 11)
    assert split.training == (*range(6), *range(12, 20))


@pytest.mark.parametrize("count", [9, 20, 60])
def test_painted_slices_are_trained_on_wherever_they_are(count):
    for index in range(count):
        labels = np.zeros((count, 8, 8), np.uint8)
        labels[index, 2:5] = TRAIN
        split = plan_split(count, coverage(labels))
        assert index in split.training
        assert split.held_out


def test_training_marks_next_to_held_out_slices_are_warned_of():
    near, far = labels_with(train=[10], hold=[8]), labels_with(train=[11], hold=[8])
    assert "Slice 10 is marked for training, but within 2 slices of a held-out one" in leakage(coverage(near))
    assert leakage(coverage(far)) == ""


def test_a_slice_that_is_both_is_held_out_with_a_warning():
    labels = labels_with(hold=[8])
    labels[8, 0, 0] = KEEP
    assert "Slice 8 is marked for training and held out: held out as a whole" in leakage(coverage(labels))


def test_with_many_scans_whole_scans_are_held_out():
    assert plan_splits([1] * 5, [None] * 5) == [*[Split((0,), ())] * 4, Split((), (0,))]


def test_if_one_scan_is_marked_5_the_others_are_trained_on():
    splits = plan_splits([20, 20], [None, coverage(labels_with(hold=[8]))])
    assert splits[0] == Split(tuple(range(20)), ())
    assert splits[1].held_out == (8,)


def test_weights_follow_the_palette():
    labels = np.array([[0, TRAIN, EMPHASISE, IGNORE, KEEP, HOLD_OUT]])
    assert weights_of(labels, labels.shape, only_marked=False).tolist() == [[1, 1, 3, 0, 1, 0]]
    assert weights_of(labels, labels.shape, only_marked=True).tolist() == [[0, 1, 3, 0, 1, 0]]
    assert weights_of(None, (1, 2), only_marked=True).tolist() == [[0, 0]]


def test_the_palette_has_the_five_documented_classes():
    assert {value: known.name for value, known in PALETTE.items()} == {
        1: "train here",
        2: "emphasise",
        3: "ignore",
        4: "keep as is",
        5: "hold out",
    }
