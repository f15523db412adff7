"""The test suite ends with a message when a process takes too much memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from memory_watch import EXIT_CODE

GREEDY = "import time; greedy = bytearray(b'1' * (200 << 20)); time.sleep(600)"
WATCHED = f"""
import subprocess, sys
from memory_watch import MemoryWatch
MemoryWatch(2, 150 << 20).start()
def fill_the_memory():
    exec({GREEDY!r})
if sys.argv[1] == "itself":
    fill_the_memory()
subprocess.run([sys.executable, "-c", {GREEDY!r}])
"""


@pytest.mark.parametrize("who", ["itself", "a child"])
def test_a_process_that_takes_too_much_memory_is_ended_with_a_traceback(who):
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, who],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert "GiB during" in ended.stderr
    assert ("fill_the_memory" if who == "itself" else "in run") in ended.stderr
