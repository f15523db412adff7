"""The states of the panels, without any widget: what each transition changes, and what is offered then."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_restore_rwkv.gui.compare.state import ORTHOGONAL, OWN_VIEW, RESTORED_ONLY, SIDE_BY_SIDE, SWIPE, CompareState
from napari_restore_rwkv.gui.fine_tune.job import Begun
from napari_restore_rwkv.gui.fine_tune.state import JUDGING, FineTuneState
from napari_restore_rwkv.gui.job_state import Activity, JobState, Message
from napari_restore_rwkv.gui.restore.state import RestoreState

CHOICES, OTHERS = ("scan", "ct-denoise"), ("scan", "mri-sr")
REPORT = {
    "kind": "progress",
    "step": 20,
    "total": 100,
    "scoring": None,
    "seconds_left": 42,
    "best_step": 10,
}
DONE = {"kind": "done", "accepted": False, "bundle": None, "candidate": "new.restorerwkv"}


@pytest.mark.parametrize("package", ["restore", "fine_tune", "compare"])
def test_a_state_is_imported_without_qt(package):
    code = (
        f"import sys, napari_restore_rwkv.gui.{package}.state\n"
        "print(sorted({'qtpy', 'PyQt6', 'PySide6', 'napari', 'magicgui'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_change_is_announced_once_and_the_same_value_is_not():
    state, seen = JobState(), []
    state.events.connect(lambda change: seen.append((change.signal.name, change.args[0])))
    state.message = Message("Saved.")
    state.message = Message("Saved.")
    assert seen == [("message", Message("Saved."))]


def test_two_panels_do_not_share_a_state():
    one, other, seen = RestoreState(), RestoreState(), []
    other.events.connect(seen.append)
    one.restore(Activity.RUNNING, whole_volume=True)
    assert (other.activity, seen) == (Activity.IDLE, [])


def running(whole_volume=True):
    state = RestoreState()
    state.restore(Activity.RUNNING, whole_volume=whole_volume)
    return state


def test_a_restoration_clears_what_was_said_and_can_be_paused_and_cancelled():
    state = RestoreState(message=Message("No GPU.", is_error=True))
    assert (state.can_pause, state.can_cancel, state.shows_progress) == (False, False, False)
    state.restore(Activity.RUNNING, whole_volume=True)
    assert state.message == Message()
    assert state.progress == "getting ready ..."
    assert (state.is_idle, state.can_pause, state.can_cancel, state.shows_bar) == (False, True, True, True)


def test_what_waits_to_start_can_be_cancelled_but_not_paused():
    state = RestoreState()
    state.restore(Activity.PREPARING, whole_volume=False)
    assert (state.can_pause, state.can_cancel, state.busy) == (False, True, "")


def test_a_single_slice_has_no_bar():
    state = running(whole_volume=False)
    assert (state.shows_progress, state.shows_bar) == (True, False)


def test_a_pause_is_announced_where_it_begins_and_ends_with_the_next_slice():
    state = running()
    state.pause()
    assert (state.is_paused, state.progress) == (True, "pausing ...")
    state.step(2, 5, "slice 3 of 5")
    assert (state.steps, state.progress) == ((2, 5), "pausing ..."), "the slice that was under way"
    state.note_pause("slice 3 of 5")
    assert state.progress == "paused · slice 3 of 5"
    state.resume()
    assert (state.is_paused, state.progress) == (False, "continuing ...")
    state.step(3, 5, "slice 4 of 5")
    assert state.progress == "slice 4 of 5"


def test_nothing_is_said_over_stopping():
    state = running()
    state.pause()
    state.stop()
    state.note_pause("slice 3 of 5")
    state.step(3, 5, "slice 4 of 5")
    assert state.progress == "stopping ..."
    assert (state.can_pause, state.can_cancel, state.is_idle) == (False, False, False)
    state.end()
    assert (state.is_paused, state.is_stopping, state.is_idle) == (False, False, True)


@pytest.mark.parametrize(
    ("activity", "words"),
    [(Activity.RUNNING, "A restoration is in progress"), (Activity.OPENING, "A scan is being opened")],
)
def test_why_nothing_can_be_started_is_said(activity, words):
    state = RestoreState()
    state.begin(activity)
    assert state.busy.startswith(words)


def test_a_result_offers_its_rest_until_something_else_is_chosen():
    state = RestoreState()
    state.show_result("This slice is restored.", CHOICES, rest_remains=True)
    assert state.rest_remains
    state.choose(CHOICES)
    assert (state.rest_remains, state.message.text) == (False, "This slice is restored."), "the same scan and task"
    state.choose(OTHERS)
    assert state.message == Message()


def test_a_refusal_goes_with_any_choice_and_other_sentences_stay():
    state = RestoreState(message=Message("There are no weights.", is_error=True))
    state.choose(CHOICES)
    assert state.message == Message()
    state.message = Message("Saved as a.nii.gz")
    state.choose(OTHERS)
    assert state.message.text == "Saved as a.nii.gz"


@pytest.fixture
def training():
    """A training of 100 steps that has begun and not reported yet."""
    state = FineTuneState(interrupted=("an earlier one",), message=Message("Exported."))
    state.train(Begun(Path("run"), "ct-denoise", "ct-denoise", "paired", 100, None, 0), CHOICES)
    return state


def test_a_training_can_be_paused_once_it_reports(training):
    assert (training.is_idle, training.can_pause, training.steps) == (False, False, (0, 100))
    assert (training.interrupted, training.message, training.words) == ((), Message(), "getting ready ...")
    training.note(REPORT)
    assert (training.can_pause, training.steps) == (True, (20, 100))
    assert training.words == "step 20 of 100 · 42 s left · best so far: step 10"


def test_an_evaluation_says_of_which_weights(training):
    training.note(REPORT | {"scoring": {"done": 2, "total": 3, "weights": "new"}, "seconds_left": 0, "best_step": 0})
    assert training.words == "held-out slice 2 of 3 with the new weights"


def test_a_training_pauses_when_it_says_so(training):
    training.note(REPORT)
    training.pause()
    assert (training.is_paused, training.words) == (False, "pausing ...")
    training.note({"kind": "paused"})
    assert (training.is_paused, training.words) == (True, "paused at step 20 of 100")
    training.note(REPORT | {"step": 21})
    assert training.words == "paused at step 20 of 100", "a report that was under way"
    training.note({"kind": "resumed"})
    assert (training.is_paused, training.words) == (False, "continuing ...")
    training.note(REPORT | {"step": 21})
    assert training.words.startswith("step 21 of 100")


def test_a_stopped_training_tells_how_its_weights_are_evaluated(training):
    training.note(REPORT)
    training.stop(JUDGING)
    assert (training.can_pause, training.words) == (False, JUDGING)
    training.note(REPORT | {"scoring": {"done": 1, "total": 3, "weights": "new"}})
    assert training.words.startswith("held-out slice 1 of 3")


def test_weights_that_were_not_accepted_are_a_bundle_once_they_are_saved(training):
    training.finish(DONE)
    assert (training.is_idle, training.bundle) == (True, None)
    training.saved = Path("kept.restorerwkv")
    assert training.bundle == Path("kept.restorerwkv")


def test_accepted_weights_are_a_bundle(training):
    training.finish(DONE | {"accepted": True, "bundle": "new.restorerwkv"})
    assert training.bundle == Path("new.restorerwkv")


def test_a_training_that_failed_has_no_outcome_and_keeps_its_curves(training):
    training.note(REPORT)
    training.finish({"kind": "error", "text": "The disk is full."})
    assert (training.outcome, training.is_idle) == ({}, True)
    assert training.begun is not None


def test_a_verdict_goes_with_another_scan_but_not_with_the_same(training):
    training.choose(OTHERS)
    assert training.begun is not None, "nothing is chosen while a training runs"
    training.finish(DONE)
    training.choose(CHOICES)
    assert training.outcome == DONE
    training.choose(OTHERS)
    assert (training.outcome, training.begun, training.record) == ({}, None, {})


def result(*, has_planes=True):
    return SimpleNamespace(has_planes=has_planes)


def test_a_new_result_is_announced_once_in_the_view_that_was_chosen_last():
    state, seen = CompareState(mode=SWIPE), []
    state.events.connect(lambda change: seen.append((change.signal.name, state.mode)))
    state.show(result())
    assert seen == [("comparison", SWIPE)]


def test_a_single_slice_is_shown_side_by_side_in_place_of_planes():
    state, seen = CompareState(mode=ORTHOGONAL), []
    assert state.can_show(ORTHOGONAL)
    state.events.mode.connect(lambda mode: seen.append(("mode", mode)))
    state.events.comparison.connect(lambda _: seen.append(("comparison", state.mode)))
    state.show(result(has_planes=False))
    assert seen == [("comparison", SIDE_BY_SIDE)], "the view changes once, with the result"
    assert not state.can_show(ORTHOGONAL)


def test_the_result_of_an_earlier_panel_leaves_the_view_to_the_user():
    state = CompareState()
    state.show(result(), OWN_VIEW)
    assert state.mode == OWN_VIEW


@pytest.mark.parametrize(("mode", "left"), [(SIDE_BY_SIDE, RESTORED_ONLY), (ORTHOGONAL, RESTORED_ONLY), (SWIPE, SWIPE)])
def test_one_picture_takes_the_place_of_a_grid(mode, left):
    state = CompareState(mode=mode)
    state.show(result())
    state.leave_grid()
    assert state.mode == left
