"""The threads of the fused kernels, with many small jobs from several callers at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src_kernels"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is called as GCC and clang are")
def test_a_late_thread_joining_a_finishing_job_does_not_crash(tmp_path):
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    program = tmp_path / "pool_stress"
    files = [str(Path(__file__).with_name("pool_stress.cpp")), str(SOURCES / "thread_pool.cpp")]
    subprocess.run([compiler, "-std=c++17", "-O2", "-pthread", f"-I{SOURCES}", *files, "-o", program], check=True)
    ended = subprocess.run([program], capture_output=True, text=True, timeout=240)
    assert (ended.returncode, ended.stdout) == (0, "3000000\n")
