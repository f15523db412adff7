"""``restore-rwkv evaluate``: scores of a restored scan against its reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..metrics import NAMES, Evaluation, evaluate
from ..scans.files import read_as
from ..scans.scan import same_geometry, to_canonical
from ..scans.volume.files import SeveralFramesError
from .terminal import note

if TYPE_CHECKING:
    from pathlib import Path

    from ..scans.options import OpenOptions
    from ..scans.scan import Scan
    from .requests import Answer, EvaluateRequest


def evaluate_files(request: EvaluateRequest) -> Answer:
    """Score RESTORED against REFERENCE, slice by slice along z; both are turned to axial order if they differ."""
    restored = _read_frame(request.restored, request.reading)
    reference = _read_frame(request.reference, request.reading)
    if not np.allclose(restored.direction, reference.direction, rtol=0, atol=1e-3):
        restored, reference = to_canonical(restored), to_canonical(reference)
    result = evaluate(restored, reference, request.window)
    aligned = same_geometry(restored, reference)
    if not aligned:
        note("the two scans differ in voxel size, position or orientation; they were compared voxel by voxel.")
    values = {**result.as_dict(), "unit": reference.unit, "same_geometry": aligned}
    return values, _table(result, reference.unit), 0


def _read_frame(path: Path, reading: OpenOptions) -> Scan:
    """Read a scan, or the chosen frame of a 4-D one: a result may have one frame and its reference many."""
    try:
        return read_as(path, replace(reading, time_index=None))
    except SeveralFramesError:
        if reading.time_index is None:
            raise
        return read_as(path, reading)


def _table(result: Evaluation, unit: str) -> str:
    """The figures as lines of text, the mean last."""
    heads = ("slice", "PSNR dB", "SSIM", f"RMSE {unit}".rstrip(), "NRMSE")
    rows = [(str(z), *(getattr(score, name) for name in NAMES)) for z, score in enumerate(result.slices)]
    rows.append(("mean", *(result.mean[name] for name in NAMES)))
    lines = ["  ".join(f"{head:>10}" for head in heads)]
    lines += ["  ".join([f"{row[0]:>10}", *(f"{value:>10.4f}" for value in row[1:])]) for row in rows]
    window = "no window" if result.window is None else f"window {result.window[0]:g} to {result.window[1]:g} {unit}"
    lines.append(f"{window.rstrip()}; data range: max - min of each reference slice")
    return "\n".join(lines)
