"""SIGKILL at any moment costs at most the current slab."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_jobs import LONG, lines, run_to_end, shards, small_ct

from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.opening import open_scan

pytestmark = pytest.mark.slow

KILLS = 30


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor SIGKILL")
def test_after_thirty_kills_the_result_is_the_same_and_no_slab_is_done_twice(tmp_path):
    path, undisturbed = tmp_path / "killed.ome.zarr", tmp_path / "undisturbed.ome.zarr"
    command = [sys.executable, Path(__file__).parent / "killed_job.py", path, str(KILLS), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["kills"] >= KILLS
    assert outcome["status"] == 0
    # What was written down before a kill is never lost.
    assert outcome["lines"] == sorted(outcome["lines"])

    result = run_to_end(undisturbed)
    assert shards(path) == shards(undisturbed)
    assert np.array_equal(open_scan(path).voxels, result.voxels)
    units = [json.loads(line)["unit"] for line in lines(path) if '"unit"' in line]
    assert sorted(units) == list(range(small_ct(**LONG).shape[0]))
    report = finish(verify(path))
    assert report.sound
    assert not list(path.rglob("*.partial"))
    assert {file.name for file in tmp_path.iterdir()} == {path.name, undisturbed.name}
