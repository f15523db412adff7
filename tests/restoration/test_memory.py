import subprocess
import sys

import pytest

from napari_restore_rwkv.restoration.memory import reused_buffers

# Page faults of making and freeing a 64 MiB buffer ten times, and the resident memory at the end, in KiB.
SCRIPT = """
import contextlib, resource, sys
import numpy as np
from napari_restore_rwkv.restoration.memory import reused_buffers
with reused_buffers() if sys.argv[1] == "reused" else contextlib.nullcontext():
    np.ones(1 << 24, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(1 << 24, np.float32)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults, next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def measured(how):
    answer = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return [int(number) for number in answer.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to reuse memory")
def test_buffers_are_reused_and_given_back_at_the_end():
    (faults, left), (faults_by_default, left_by_default) = measured("reused"), measured("default")
    assert faults < faults_by_default / 10
    assert left < left_by_default + 32 * 1024


def test_an_error_inside_is_passed_on():
    with pytest.raises(KeyError), reused_buffers():
        raise KeyError
