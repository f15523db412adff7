"""A PyTorch that finds an NVIDIA GPU where there is none, and programs that run beside the stub of its driver."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

HERE = Path(__file__).parent
STUB = HERE.parent / "emulation" / "stub_libcuda.c"


def pretend_gpu(patch, *, release="13.0", capability=(8, 6), works=True):
    """Let torch.cuda answer as with one GPU; return the handle of its current stream, to be changed at will."""
    stream = SimpleNamespace(cuda_stream=0)
    patch.setattr(torch.version, "cuda", release)
    patch.setattr(torch.cuda, "is_available", lambda: works)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    patch.setattr(torch.cuda, "get_device_name", lambda index: "Pretended GPU")
    patch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    patch.setattr(torch.cuda, "current_stream", lambda index: stream)
    return stream


def build_stub(folder):
    """Compile the stub under the name by which the driver is found."""
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(STUB)]
    subprocess.run([*command, "-o", str(folder / "libcuda.so.1")], check=True, timeout=240)


def run_beside_stub(stub_folder, log, code, **environment):
    """Run code that finds the stub, and `torch` and `stream`, in an interpreter; return what both wrote."""
    log.unlink(missing_ok=True)
    prelude = (
        "import pytest, torch\nfrom pretended_gpu import pretend_gpu\nstream = pretend_gpu(pytest.MonkeyPatch())\n"
    )
    found = {"LD_LIBRARY_PATH": str(stub_folder), "STUB_LOG": str(log), "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        env={**os.environ, **found, **environment},
        capture_output=True,
        text=True,
        # Beside a broken driver a mistake shows as a wait without end.
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, log.read_text().splitlines() if log.exists() else []
