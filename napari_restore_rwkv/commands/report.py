"""``restore-rwkv report``: what a restoration did to a scan, as a page, as JSON, and in a few lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError
from ..scans.opening import open_scan
from .terminal import watch

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from ..reliability.report import Report
    from ..scans.scan import Scan

SUFFIXES = (".png", ".pdf", ".json")


def report_files(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Report on RESTORED against INPUT."""
    outputs: list[Path] = arguments.output or []
    for output in outputs:
        _check(output, arguments.overwrite)
    options = {"modality": arguments.modality, "allow_outside_files": arguments.allow_outside_files}
    before, after = (open_scan(path, **options) for path in (arguments.input, arguments.restored))
    reference = None if arguments.reference is None else open_scan(arguments.reference, **options)

    from ..reliability.report import report_on

    report = watch(report_on(before, after, reference))
    values = report.as_dict()
    for output in outputs:
        if output.suffix.lower() == ".json":
            output.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        else:
            _draw(report, before, after, f"{arguments.input.name} and {arguments.restored.name}", output)
    return values, "\n".join(_lines(report)), 0


def _check(output: Path, overwrite: bool) -> None:
    """Refuse a file that could not be written in the end."""
    if output.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{output.name}: a report is written as {', '.join(SUFFIXES)}; give one of those.")
    if not output.parent.is_dir():
        raise OutputError(f"The folder {output.parent} does not exist: make it first, or choose another.")
    if output.exists() and not overwrite:
        raise OutputError(f"{output.name} exists already: give another name, or --overwrite.")


def _draw(report: Report, before: Scan, after: Scan, title: str, output: Path) -> None:
    from ..reliability.page import draw_page, first_to_look_at
    from ..restoration.plan import region_of
    from ..scans.scan import AXES

    axis = AXES.index(report.axis)
    region = region_of(before, axis, first_to_look_at(report).index)
    images = [np.asarray(scan.voxels[region]).squeeze(axis) for scan in (before, after)]
    draw_page(report, images[0], images[1], title, output)


def _lines(report: Report) -> list[str]:
    values = report.summary()
    unit = f" {report.unit}" if report.unit else ""
    noise = " -> ".join(f"{values[name]:.3g}" for name in ("noise_before", "noise_after"))
    lines = [f"noise {noise}{unit} (medians of {len(report.slices)} slices)"]
    if "psnr_after" in values:
        window = "" if report.window is None else f", window {report.window[0]:g} to {report.window[1]:g}{unit}"
        lines.append(
            f"PSNR {values['psnr_before']:.2f} -> {values['psnr_after']:.2f} dB, "
            f"SSIM {values['ssim_before']:.4f} -> {values['ssim_after']:.4f}{window}"
        )
    suspicious = report.suspicious()
    if not suspicious:
        lines.append("What was removed looks like noise alone in every slice.")
    lines += [f"slice {one.index}: {one.removed.reason}" for one in suspicious[:5]]
    if len(suspicious) > 5:
        lines.append(f"and {len(suspicious) - 5} more slices, which the .json report names")
    return lines
