"""Rewrites the stored results: python -m tests.same_results.store."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from . import runs
from .test_same_results import EVERY, HERE, digest, processor

if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = runs.all_runs(Path(folder))
    np.savez_compressed(HERE / "results.npz", **{name: values.ravel()[::EVERY] for name, values in results.items()})
    about = {"processor": processor(), "digests": {name: digest(values) for name, values in results.items()}}
    (HERE / "digests.json").write_text(json.dumps(about, indent=1) + "\n")
