"""Threads that take what the processor has to spare, and no more.

PyTorch shares each operation out among OpenMP threads that meet at barriers. GNU's OpenMP spins there, for
milliseconds, before it sleeps: alone on a machine that is a little faster, but beside other programs one thread spins
away the very time that the other one, put off by the scheduler, waits for. `scripts/benchmark_contention.py` measures
it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@cache
def let_idle_threads_sleep() -> bool:
    """Have PyTorch's threads sleep at their barriers instead of spinning; tell whether that could be arranged.

    OMP_WAIT_POLICY would do it, but is read when OpenMP is loaded, which another plugin may have caused long ago. At
    any time, however, GNU's OpenMP spins for microseconds only while it manages more threads than there are processors.
    So a thread of this package starts that many, which do nothing, and holds on to them: they sleep for the rest of the
    process. Elsewhere than on Linux nothing is done.
    """
    import torch

    openmp = _gnu_openmp() if torch.backends.openmp.is_available() else None
    if openmp is None:
        return False
    held = threading.Event()

    def hold() -> None:
        # What each of the threads calls is free(NULL), which is defined to do nothing.
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        openmp.GOMP_parallel(nothing, None, openmp.omp_get_num_procs() + 1, 0)
        held.set()
        # The threads are this one's, and would end with it.
        threading.Event().wait()

    threading.Thread(target=hold, name="holds idle OpenMP threads", daemon=True).start()
    held.wait()
    return True


def each_on_one_thread(
    work: Callable[[_Item], _Result], items: Iterable[_Item], count: int
) -> Generator[_Result, None, None]:
    """Work on several items at a time, each on one thread of PyTorch's, and yield the results in order.

    Small operations lose more by being shared out than they gain; whole items can be shared out instead.

    Parameters
    ----------
    work
        Called with one item, in some thread.
    items
        Taken in the thread that iterates, a few ahead of the results.
    count
        How many items there are, at most.
    """
    import torch

    threads = min(torch.get_num_threads(), count)
    if threads < 1:
        return
    all_here, before = threading.Barrier(threads), torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=_work_alone) as pool:
        list(pool.map(lambda _: all_here.wait(), range(threads)))
        # A thread's setting is its own, but also what threads get that are started later.
        torch.set_num_threads(before)
        remaining = iter(items)
        waiting = [pool.submit(work, item) for item in islice(remaining, threads + 1)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(work, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def _work_alone() -> None:
    """Leave the operations of this thread to this thread."""
    import torch

    # The first question sets the number from the process's own, which would overrule ours later.
    torch.get_num_threads()
    torch.set_num_threads(1)


def _gnu_openmp() -> ctypes.CDLL | None:
    """The library that PyTorch has loaded."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, StopIteration):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        # Of several the one that PyTorch brings along is the one that it uses.
        paths = sorted(
            {line.split(maxsplit=5)[5] for line in maps if "libgomp" in line}, key=lambda path: "torch" not in path
        )
        return ctypes.CDLL(next(iter(paths)))
    return None
