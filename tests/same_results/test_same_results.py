"""Restorations give what they gave before code was moved.

`results.npz` has a part of each result, and `digests.json` the sha256 of all of it on the processor named there.
Instruction sets round differently, so other processors are held to the values within `TOLERANCE`. Where a result is
meant to change, ``python -m tests.same_results.store`` rewrites both files, and the commit says why.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from . import runs

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
# Of the window of intensities, 2200 HU for CT; the greatest difference seen between instruction sets is 1e-6 of it.
TOLERANCE = 2e-5
EVERY = 7


def processor():
    """Name what decides how sums are rounded: PyTorch's version, the processor, its instruction set."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"torch {torch.__version__.partition('+')[0]}, {model}, {torch.backends.cpu.get_cpu_capability()}"


def digest(values):
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    torch.set_num_threads(1)
    return runs.all_runs(tmp_path_factory.mktemp("runs"))


def test_every_run_is_stored(results):
    stored = json.loads((HERE / "digests.json").read_text())["digests"]
    assert sorted(results) == sorted(stored)


def test_values_are_those_of_before(results):
    with np.load(HERE / "results.npz") as stored:
        for name, values in results.items():
            modality = next((known for known in ("MR", "PET") if known in name), "CT")
            window = runs.HIGH[modality] - runs.LOW[modality]
            found = values.ravel()[::EVERY].astype(np.float64)
            largest = np.abs(found - stored[name]).max()
            # Integers may be rounded to either side.
            allowed = TOLERANCE * window + (values.dtype.kind == "i")
            assert largest <= allowed, f"{name}: off by {largest:g}"


def test_digests_are_those_of_before_on_the_same_processor(results):
    stored = json.loads((HERE / "digests.json").read_text())
    if stored["processor"] != processor():
        pytest.skip(f"digests are those of {stored['processor']}")
    assert {name: digest(values) for name, values in results.items()} == stored["digests"]


def test_file_jobs_and_parts_give_the_array_to_the_bit(results):
    assert digest(results["file job"]) == digest(results["array"])
    assert digest(results["two parts"]) == digest(results["array"])
    neighbours = "neighbours and noise"
    assert digest(results[f"file job, {neighbours}"]) == digest(results[f"array, {neighbours}"])
