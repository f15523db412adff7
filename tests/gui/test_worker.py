"""The background thread reports every outcome, and always ends."""

import os
import sys
import threading
import time

import pytest
from qtpy.QtCore import QThreadPool

from napari_restore_rwkv.gui.background import Background
from napari_restore_rwkv.gui.worker import NICER_BY, StepsWorker
from napari_restore_rwkv.progress import Phase, Progress


def listen(worker):
    """Return what the worker says, as it comes."""
    heard = {"progressed": [], "returned": [], "errored": [], "finished": []}
    worker.progressed.connect(lambda news: heard["progressed"].append(news.progress))
    worker.returned.connect(heard["returned"].append)
    worker.errored.connect(heard["errored"].append)
    worker.finished.connect(lambda: heard["finished"].append(True))
    return heard


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("odd"), MemoryError("full")])
def test_every_error_is_reported_and_the_worker_ends(qtbot, error):
    def steps():
        yield Progress(Phase.RESTORING, 0, 1)
        raise error

    worker = StepsWorker(steps())
    heard = listen(worker)
    worker.start()
    qtbot.waitUntil(lambda: bool(heard["finished"]), timeout=5000)
    assert heard["errored"] == [error]
    assert heard["returned"] == []
    assert not worker.is_running


def test_progress_and_value_are_delivered(qtbot):
    def steps():
        yield Progress(Phase.RESTORING, 0, 2)
        yield Progress(Phase.RESTORING, 1, 2)
        return "restored"

    worker = StepsWorker(steps())
    heard = listen(worker)
    worker.start()
    qtbot.waitUntil(lambda: bool(heard["finished"]), timeout=5000)
    assert heard["progressed"][-1].done == 1
    assert heard["returned"] == ["restored"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities per thread")
def test_the_work_has_a_lower_priority_and_the_window_keeps_its_own(qtbot):
    priorities = []

    def steps():
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        yield Progress(Phase.RESTORING, 0, 1)

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    worker = StepsWorker(steps())
    heard = listen(worker)
    worker.start()
    qtbot.waitUntil(lambda: bool(heard["finished"]), timeout=5000)
    assert priorities[0] == min(before + NICER_BY, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.fixture
def one_place():
    """Qt's pool as on one processor."""
    pool = QThreadPool.globalInstance()
    most = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    yield pool
    pool.setMaxThreadCount(most)


def test_questions_are_answered_while_long_work_goes_on(qtbot, one_place):
    answers, enough = [], threading.Event()

    def steps():
        yield Progress(Phase.RESTORING, 0, 1)
        enough.wait()

    worker, background = StepsWorker(steps()), Background()
    heard = listen(worker)
    background.answered.connect(answers.append)
    worker.start()
    qtbot.waitUntil(lambda: bool(heard["progressed"]))
    background.ask(lambda: "answered")
    try:
        qtbot.waitUntil(lambda: answers == ["answered"])
    finally:
        enough.set()
        qtbot.waitUntil(lambda: bool(heard["finished"]))
    qtbot.waitUntil(lambda: one_place.activeThreadCount() == 0)


def test_cancel_closes_the_generator_within_a_step(qtbot):
    closed = threading.Event()

    def steps():
        try:
            while True:
                time.sleep(0.01)
                yield Progress(Phase.RESTORING, 0, 1)
        finally:
            closed.set()

    worker = StepsWorker(steps())
    heard = listen(worker)
    worker.start()
    qtbot.waitUntil(lambda: bool(heard["progressed"]), timeout=5000)
    assert worker.join(60)
    assert closed.is_set()
    qtbot.waitUntil(lambda: bool(heard["finished"]), timeout=5000)
    assert heard["returned"] == []


def test_the_displayed_slice_is_sent(qtbot):
    sent, enough = [], threading.Event()

    def steps():
        while not enough.is_set():
            sent.append((yield Progress(Phase.RESTORING, 0, 1)))
            time.sleep(0.002)

    worker = StepsWorker(steps())
    heard = listen(worker)
    worker.start()
    qtbot.waitUntil(lambda: len(sent) > 5, timeout=5000)
    worker.displayed = 12
    already = len(sent)
    # The one that is under way may still get what was displayed before.
    qtbot.waitUntil(lambda: len(sent) > already + 1)
    enough.set()
    qtbot.waitUntil(lambda: bool(heard["finished"]), timeout=5000)
    assert sent[0] is None
    assert sent[-1] == 12
