"""A limit on the memory of the suite: what would fill the machine becomes a traceback instead.

The resident memory of this process and of those it starts is read twice a second. A limit on the address space would
not do: torch and LLVM reserve far more of it than they use.
"""

import faulthandler
import os
import threading

import psutil

LIMIT_BYTES = 4 * 2**30
READ_EVERY_S = 0.5
EXIT_CODE = 70


class MemoryWatch(threading.Thread):
    """Ends the process, with the tracebacks of all threads, if it or one that it started takes more than the limit.

    Parameters
    ----------
    stream
        Number of an open file that is written to; not the standard error of a test, which pytest takes for itself.
    limit
        Bytes of resident memory.
    """

    def __init__(self, stream: int, limit: int = LIMIT_BYTES) -> None:
        super().__init__(name="memory watch", daemon=True)
        self._stream, self._limit = stream, limit
        self._stopped = threading.Event()

    def run(self) -> None:
        """Watch until `stop`."""
        us = psutil.Process()
        while not self._stopped.wait(READ_EVERY_S):
            for process in (us, *us.children(recursive=True)):
                try:
                    taken = process.memory_info().rss
                except psutil.Error:
                    # It has ended meanwhile.
                    continue
                if taken > self._limit:
                    self._end(process, taken)

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _end(self, process: psutil.Process, taken: int) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        taken_gib, limit_gib = taken / 2**30, self._limit / 2**30
        what = f"process {process.pid} took {taken_gib:.1f} GiB during {test}; {limit_gib:.1f} are allowed"
        os.write(self._stream, f"\n{what}\n".encode())
        faulthandler.dump_traceback(self._stream, all_threads=True)
        if process.pid != os.getpid():
            process.kill()
        os._exit(EXIT_CODE)
