"""Threads that use spare CPU time, and no more.

PyTorch divides each operation among OpenMP threads that meet at barriers. GNU's OpenMP spins there for milliseconds
before it sleeps: alone on a machine that is slightly faster, but beside other programs a spinning thread uses up the
very time that another thread, descheduled by the system, is waiting for. `scripts/benchmark_contention.py` measures
this.
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
    """Make PyTorch's threads sleep at their barriers instead of spinning; return whether that worked.

    OMP_WAIT_POLICY would do it, but is read when OpenMP is loaded, which another plugin may have done long before. At
    any time, however, GNU's OpenMP spins only for microseconds while it manages more threads than there are CPU cores.
    So a thread of this package starts that many idle threads and keeps them: they sleep for the rest of the process.
    Nothing is done on systems other than Linux.
    """
    import torch

    openmp = _gnu_openmp() if torch.backends.openmp.is_available() else None
    if openmp is None:
        return False
    held = threading.Event()

    def hold() -> None:
        # Each of the threads calls free(NULL), which is defined to do nothing.
        nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)
        openmp.GOMP_parallel(nothing, None, openmp.omp_get_num_procs() + 1, 0)
        held.set()
        # The threads belong to this one, and would end with it.
        threading.Event().wait()

    threading.Thread(target=hold, name="holds idle OpenMP threads", daemon=True).start()
    held.wait()
    return True


def each_on_one_thread(
    work: Callable[[_Item], _Result], items: Iterable[_Item], count: int
) -> Generator[_Result, None, None]:
    """Process several items at a time, each on one PyTorch thread, and yield the results in order.

    Small operations lose more by being divided among threads than they gain; whole items can be distributed instead.

    Parameters
    ----------
    work
        Called with one item, in some thread.
    items
        Taken in the iterating thread, a few ahead of the results.
    count
        Maximum number of items.
    """
    import torch

    threads = min(torch.get_num_threads(), count)
    if threads < 1:
        return
    all_here, before = threading.Barrier(threads), torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=_work_alone) as pool:
        list(pool.map(lambda _: all_here.wait(), range(threads)))
        # The setting is per thread, but threads started later inherit it.
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
    """Run the operations of this thread on this thread only."""
    import torch

    # The first query sets the number from the process's setting, which would later overrule ours.
    torch.get_num_threads()
    torch.set_num_threads(1)


def _gnu_openmp() -> ctypes.CDLL | None:
    """The library that PyTorch has loaded."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, StopIteration):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        # Of several, PyTorch uses the one that it ships.
        paths = sorted(
            {line.split(maxsplit=5)[5] for line in maps if "libgomp" in line}, key=lambda path: "torch" not in path
        )
        return ctypes.CDLL(next(iter(paths)))
    return None
