import os
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import torch

from napari_restore_rwkv.threads import each_on_one_thread, let_idle_threads_sleep


@pytest.fixture
def three_threads():
    torch.set_num_threads(3)
    yield 3
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_idle_threads_are_held_although_torch_was_loaded_and_used_before():
    # As soon as OpenMP has more threads than there are processors, all of them stop spinning.
    code = (
        "import os, torch\n"
        "torch.set_num_threads(2)\n"
        "torch.rand(512, 512) @ torch.rand(512, 512)\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "from napari_restore_rwkv.threads import let_idle_threads_sleep\n"
        "assert let_idle_threads_sleep() and let_idle_threads_sleep()\n"
        "torch.rand(512, 512) @ torch.rand(512, 512)\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    more = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert more >= len(os.sched_getaffinity(0)) + 1


def test_holding_idle_threads_leaves_the_number_of_threads_as_it_is(three_threads):
    let_idle_threads_sleep()
    assert torch.get_num_threads() == three_threads


def test_results_come_in_order_and_each_is_made_on_one_thread(three_threads):
    def work(number):
        # The later ones would overtake the earlier ones.
        time.sleep(0.02 * (number % 2 == 0))
        return number, torch.get_num_threads()

    assert list(each_on_one_thread(work, range(8), 8)) == [(number, 1) for number in range(8)]


def test_as_many_items_are_in_progress_as_there_are_threads(three_threads):
    all_at_once = threading.Barrier(three_threads, timeout=240)
    assert len(list(each_on_one_thread(lambda _: all_at_once.wait(), range(6), 6))) == 6


def test_other_threads_keep_their_number_of_threads(three_threads):
    list(each_on_one_thread(lambda item: item, range(4), 4))
    seen = [torch.get_num_threads()]
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [three_threads, three_threads]


def test_items_are_read_no_further_ahead_than_needed_and_closing_stops(three_threads):
    read = []

    def items():
        for number in range(1000):
            read.append(number)
            yield number

    with closing(each_on_one_thread(lambda item: item, items(), 1000)) as results:
        assert next(results) == 0
    assert len(read) <= three_threads + 2


def test_an_error_in_one_item_is_raised(three_threads):
    def work(number):
        if number == 2:
            raise ValueError("the third")
        return number

    with pytest.raises(ValueError, match="the third"):
        list(each_on_one_thread(work, range(8), 8))


def test_no_items_give_no_results():
    assert list(each_on_one_thread(lambda item: item, [], 0)) == []
