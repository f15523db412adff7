"""Layers are deleted in a real window, in a separate process, since a failure is a segmentation fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SLOW_START = 250  # seconds; napari and torch take a while on a busy machine


def run(*words):
    # Traces of the threads, should it crash.
    more = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SLOW_START, check=False, env=more)


def test_drawing_survives_the_deletion_of_hidden_layers():
    done = run(HERE / "hidden_layer.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("survived\n")
