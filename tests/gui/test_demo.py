"""The demo of the README, as a newcomer runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from napari_restore_rwkv.scans.files import read_scan, write_scan

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
SLOW_START = 200  # seconds; napari and torch take a while on a busy machine


def test_the_demo_restores_a_scan_and_leaves_a_picture(small_scan, tmp_path):
    scan = small_scan.with_voxels(small_scan.voxels[:2])
    write_scan(scan, tmp_path / "scan.nii.gz")
    words = [sys.executable, DEMO, tmp_path / "scan.nii.gz", "--leave-files", tmp_path / "left"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=SLOW_START, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "left" / "before_after_difference.png").read_bytes().startswith(b"\x89PNG")
    assert read_scan(tmp_path / "left" / "restored.nii.gz").shape == scan.shape
