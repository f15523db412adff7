"""A producer that is faster than the viewer costs constant memory, and leaves the event loop free."""

import itertools
import threading

import pytest
from qtpy.QtCore import QCoreApplication, Qt, QTimer

from napari_restore_rwkv.gui.mailbox import Mailbox, News, collect_all, collect_news
from napari_restore_rwkv.gui.restore.pace import Pace
from napari_restore_rwkv.gui.worker import StepsWorker
from napari_restore_rwkv.progress import Phase, Progress

MANY, SLICES = 50_000, 20


def region(index):
    return slice(index, index + 1), slice(0, 8), slice(0, 8)


def flood(count):
    """Steps as fast as Python makes them."""
    for step in range(count):
        yield Progress(Phase.RESTORING, step, count, region(step % SLICES))
    return "done"


def test_at_most_one_event_is_pending_and_the_newest_item_is_delivered(qtbot):
    mailbox, contents, on_their_way = Mailbox(collect_news), [], []
    mailbox.opened.connect(contents.append)
    mailbox._filled.connect(lambda: on_their_way.append(True), Qt.ConnectionType.DirectConnection)
    producer = threading.Thread(target=lambda: [mailbox.put(step) for step in flood(MANY)])
    producer.start()
    # The viewer is busy with something else.
    producer.join()
    assert (contents, len(on_their_way)) == ([], 1)
    qtbot.waitUntil(lambda: bool(contents))
    (news,) = contents
    assert news.progress.done == MANY - 1
    assert sorted(along[0].start for along in news.regions) == list(range(SLICES)), "each region once, and all of them"


def test_news_take_no_more_memory_than_the_scan_has_slices():
    news = News(Progress(Phase.RESTORING, 0, 1))
    for step in flood(MANY):
        news.add(step)
    assert len(news.regions) == SLICES


def test_a_worker_that_ran_ahead_is_reported_in_one_event(qtbot):
    worker, heard, returned = StepsWorker(flood(MANY)), [], []
    worker.progressed.connect(heard.append)
    worker.returned.connect(lambda value: returned.append((value, len(heard))))
    worker.start()
    worker._ended.wait(240)
    qtbot.waitUntil(lambda: bool(returned), timeout=20_000)
    assert returned == [("done", 1)], "the last step is heard before the end"
    assert heard[0].progress.done == MANY - 1


def test_the_event_loop_is_free_while_a_producer_floods_it(qtbot):
    turns = []
    enough = threading.Event()

    def endless():
        for step in itertools.count():
            if enough.is_set():
                return
            yield Progress(Phase.RESTORING, 0, 1, region(step % SLICES))

    def have_a_turn():
        turns.append(True)
        if len(turns) < 100:
            QTimer.singleShot(0, have_a_turn)
        else:
            enough.set()

    worker, ended = StepsWorker(endless()), []
    worker.finished.connect(lambda: ended.append(True))
    worker.progressed.connect(lambda news: turns or have_a_turn())
    worker.start()
    # It ends only because the event loop has had a hundred turns meanwhile.
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    assert len(turns) == 100


def test_there_is_a_pause_between_two_readings(qtbot):
    mailbox, contents = Mailbox(collect_all, every_ms=3_600_000), []
    mailbox.opened.connect(contents.append)
    mailbox.put(1)
    qtbot.waitUntil(lambda: bool(contents))
    for item in (2, 3):
        mailbox.put(item)
        QCoreApplication.processEvents()
    assert contents == [[1]], "the first is handed out at once, the others after an hour"
    mailbox.read()
    assert contents == [[1], [2, 3]]


def test_the_time_left_does_not_count_what_comes_before_the_first_slice_nor_a_pause():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for at, done in ((0, 0), (30, 0), (40, 1)):
        now[0] = at
        pace.note(done)
        assert pace.seconds_left(10) is None
    now[0] = 42
    pace.note(2)
    assert pace.seconds_left(10) == pytest.approx(16)
    now[0] = 1042
    pace.skip(1000)
    now[0] = 1044
    pace.note(3)
    assert pace.seconds_left(10) == pytest.approx(14)


def test_the_time_left_follows_a_machine_that_becomes_slower():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for done in range(1, 101):
        now[0] += 1 if done < 50 else 5
        pace.note(done)
    assert pace.seconds_left(200) == pytest.approx(500)
