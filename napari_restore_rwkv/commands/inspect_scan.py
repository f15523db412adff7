"""``restore-rwkv inspect``: what a scan is, what is proposed for it and why, and what would be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RestoreError, ScanError
from ..restoration.intensity import choose_intensity
from ..restoration.suitability import suitability, texture
from ..scans.noise.estimate import HIGH_FREQUENCY, estimate_noise
from ..scans.scan import AXES
from ..scans.slice_axis import choose_slice_axis
from ..tasks import TASKS
from .preparing import open_input

if TYPE_CHECKING:
    from ..scans.noise.estimate import Noise
    from ..scans.scan import Scan
    from .requests import Answer, InspectRequest


def inspect_scan(request: InspectRequest) -> Answer:
    """Describe INPUT without changing anything."""
    scan = open_input(request.input, request.reading)
    axis = choose_slice_axis(scan, request.axis)
    refused = []
    try:
        noise = estimate_noise(scan, axis.axis)
    except ScanError as error:
        noise = None
        refused.append(str(error))
    task = next((one.name for one in TASKS.values() if scan.modality and one.modality == scan.modality), None)
    proposal, more = ({}, []) if task is None else _proposed(scan, task, noise)
    if task is None:
        refused.append(f"The task must be chosen with --task or --modality: {scan.metadata['modality_reason']}.")
    refused += more
    values = {
        "input": str(request.input),
        "modality": scan.modality,
        "modality_reason": scan.metadata.get("modality_reason", ""),
        "unit": scan.unit,
        "shape": list(scan.shape),
        "spacing_mm": [float(one) for one in scan.spacing_mm],
        "dtype": str(np.dtype(scan.voxels.dtype)),
        "slice_axis": AXES[axis.axis],
        "slice_axis_reason": axis.reason,
        "noise": None if noise is None else noise.as_dict(),
        "proposal": proposal,
        "refused": refused,
    }
    return values, _text(values, noise), 0


def _proposed(scan: Scan, task: str, noise: Noise | None) -> tuple[dict[str, Any], list[str]]:
    """What is proposed for a scan with its reasons, and what would be refused."""
    from ..network.checkpoint import FALLS_SHORT, shipped_checkpoints
    from ..network.classical import classical_name, load_restorer
    from ..restoration.checks import check_voxels

    refused = []
    rule = None
    try:
        check_voxels(scan.voxels, dimensions=3)
        rule = choose_intensity(scan)
    except RestoreError as error:
        refused.append(str(error))
    card: Any = load_restorer(task if task in shipped_checkpoints() else classical_name(task)).card
    short = card.details.get(FALLS_SHORT)
    reasons = [f"task {task}, because {scan.metadata.get('modality_reason', 'it was given')}"]
    strength, classical = 1.0, bool(short)
    if short:
        reasons.append(f"the weights are experimental ({short})")
    if noise is not None:
        found = suitability(noise, card)
        strength, classical = found.strength, classical or found.classical
        reasons += [found.reason.rstrip(".")] if found.reason else []
    proposal = {
        "task": task,
        "weights": classical_name(task) if classical else card.title,
        "strength": strength,
        "intensity": None if rule is None else rule.as_dict(),
        "reasons": reasons,
    }
    return proposal, refused


def _text(values: dict[str, Any], noise: Noise | None) -> str:
    unit = f" {values['unit']}" if values["unit"] else ""
    spacing = " x ".join(f"{one:.3g}" for one in values["spacing_mm"])
    lines = [
        f"{values['input']}: {values['modality'] or 'modality unknown'} ({values['modality_reason']})",
        f"  {' x '.join(map(str, values['shape']))} voxels (z, y, x) of {spacing} mm, {values['dtype']}{unit}",
        f"  slices along {values['slice_axis']}, {values['slice_axis_reason']}",
    ]
    if noise is not None and noise.sigma == 0:
        lines.append("  noise: none found")
    elif noise is not None:
        lines.append(
            f"  noise: {noise.sigma:.3g}{unit}, {texture(noise)} (mean frequency {noise.mean_frequency:.2f} "
            f"cycles per pixel, {noise.high_share:.0%} above {HIGH_FREQUENCY})"
        )
    if noise is not None and noise.slice_correlation is not None:
        lines.append(f"  correlation with the noise of the next slice: {noise.slice_correlation:.2f}")
    if proposal := values["proposal"]:
        lines.append(f"  proposed: {proposal['weights']} at {proposal['strength']:.0%} strength")
        lines += [f"    {reason}" for reason in proposal["reasons"]]
    lines += [f"  refused: {words}" for words in values["refused"]]
    return "\n".join(lines)
