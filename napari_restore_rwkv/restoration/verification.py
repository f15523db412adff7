"""Checks of inference that need a device to run on, above all an NVIDIA GPU.

Tests and `scripts/check_gpu.py` call this; it also runs on a CPU, with batches of one and no recordings.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .executor import Executor
from .intensity import choose_intensity
from .machine import machine_for
from .memory import reused_buffers
from .precision import EXACT, PRECISIONS, converted, deviation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from ..scans.scan import Scan

# In three batches: one warms up, one is recorded, one is replayed; and a remainder.
SLICES, BATCH = 14, 4


def check_inference(network: nn.Module, scan: Scan, device: torch.device) -> dict[str, Any]:
    """Restore slices of a scan in every available way, and compare.

    Parameters
    ----------
    network
        From `load_checkpoint`; moved to the device.
    scan
        Slices along z, repeated if there are too few.

    Returns
    -------
    dict
        Plain values: "runs", by name ("alone", "together", "recorded", and "recorded, bfloat16" and so on), each with
        "difference" (see `deviation`) from the run "alone", step by step in float32, "seconds_per_slice" including
        transfers, and "report" (see `Executor.report`); "bytes_left", what the device still holds after the runs.
    """
    network.to(device)
    rule = choose_intensity(scan)
    originals = [np.asarray(scan.voxels[z % scan.shape[0]]) for z in range(SLICES)]
    images = [rule.to_network(original) for original in originals]
    ways: dict[str, tuple[str, int, bool]] = {
        "alone": (EXACT, 1, False),
        "together": (EXACT, BATCH, False),
        "recorded": (EXACT, BATCH, True),
        **{f"recorded, {name}": (name, BATCH, True) for name in PRECISIONS if name != EXACT},
    }
    bytes_before = _bytes_held(device)
    runs: dict[str, Any] = {}
    exact = np.empty(0)
    for name, (precision, most, record) in ways.items():
        values, seconds, report = run_images(network, images, device, precision=precision, most=most, record=record)
        restored = np.stack([rule.from_network(*pair) for pair in zip(values, originals, strict=True)])
        exact = restored if name == "alone" else exact
        runs[name] = {
            "difference": deviation(restored, exact, rule.unit),
            "seconds_per_slice": seconds / len(images),
            "report": report,
        }
    return {"runs": runs, "bytes_left": _bytes_held(device) - bytes_before}


def run_images(
    network: nn.Module,
    images: Sequence[np.ndarray],
    device: torch.device,
    *,
    precision: str = EXACT,
    most: int | None = None,
    record: bool = True,
) -> tuple[np.ndarray, float, dict[str, Any]]:
    """Run (Y, X) images through a network as `restore` does; return (B, Y, X), the seconds, and the report."""
    results: list[np.ndarray] = []
    waiting = list(images)
    with (
        reused_buffers(),
        Executor(converted(network, precision), machine_for(device), most, record=record) as executor,
    ):
        start = time.perf_counter()
        while len(results) < len(images):
            if waiting and executor.wants_more:
                some, waiting = waiting[: executor.batch], waiting[executor.batch :]
                for _ in executor.submit(some):
                    pass
            else:
                results.extend(executor.collect())
        return np.stack(results), time.perf_counter() - start, executor.report()


def _bytes_held(device: torch.device) -> int:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
