import subprocess
import sys

import pytest
import torch

from napari_restore_rwkv.restoration import machine
from napari_restore_rwkv.restoration.machine import Machine
from napari_restore_rwkv.restoration.memory import reused_buffers

glibc_only = pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to reuse memory")

# Page faults of making and freeing a 64 MiB buffer ten times, in one job or each in a job of its own, and the resident
# memory in KiB at once and after a while. With "one of two", another job goes on for longer than freed memory is kept.
SCRIPT = """
import contextlib, resource, sys, time
import numpy as np
from napari_restore_rwkv.restoration import memory
memory.KEPT_FOR_S = 0.5
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
def job(times):
    with memory.reused_buffers() if sys.argv[1] != "default" else contextlib.nullcontext():
        for _ in range(times):
            np.ones(1 << 24, np.float32)
if sys.argv[1] == "one of two":
    other = memory.reused_buffers()
    other.__enter__()
job(1)
if sys.argv[1] == "one of two":
    time.sleep(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for times in [10] if sys.argv[1] == "one job" else [1] * 10:
    job(times)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
if sys.argv[1] == "one of two":
    other.__exit__(None, None, None)
at_once, end = resident(), time.monotonic() + 240
while sys.argv[1] != "default" and resident() > at_once - 48 * 1024 and time.monotonic() < end:
    time.sleep(0.05)
print(faults, at_once, resident())
"""


def measured(how):
    answer = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return [int(number) for number in answer.stdout.split()]


@glibc_only
@pytest.mark.parametrize("how", ["one job", "jobs", "one of two"])
def test_buffers_are_reused_and_freed_after_a_while(how):
    (faults, kept, left), (faults_by_default, _, left_by_default) = measured(how), measured("default")
    assert faults < faults_by_default / 10
    assert left < left_by_default + 32 * 1024 < kept


@glibc_only
def test_kept_buffers_are_freed_when_memory_is_short(monkeypatch):
    free = [1 << 20]
    monkeypatch.setattr(machine, "free_memory", lambda device: free[0])
    monkeypatch.setattr(machine, "give_back_unused", lambda: free.__setitem__(0, 1 << 30))
    assert Machine(torch.device("cpu")).has_room(1 << 24)
    free[0] = 1 << 20
    monkeypatch.setattr(machine, "give_back_unused", lambda: None)
    assert not Machine(torch.device("cpu")).has_room(1 << 24)


def test_an_error_inside_is_passed_on():
    with pytest.raises(KeyError), reused_buffers():
        raise KeyError
