"""``restore-rwkv report``: what a restoration did to a scan, as a page, as JSON, and in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..reliability.report import report_on
from ..reliability.report_files import check_report_file, write_report
from ..scans.opening import open_scan
from .terminal import watch

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from ..reliability.report import Report


def report_files(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Report on RESTORED against INPUT."""
    outputs: list[Path] = arguments.output or []
    for output in outputs:
        _check(output, arguments.overwrite)
    names = ("modality", "series", "correct_tilt", "allow_outside_files")
    options = {name: getattr(arguments, name) for name in names}
    before, after = (open_scan(path, **options) for path in (arguments.input, arguments.restored))
    reference = None if arguments.reference is None else open_scan(arguments.reference, **options)

    report = watch(report_on(before, after, reference))
    values = report.as_dict()
    for output in outputs:
        write_report(report, before, after, f"{arguments.input.name} and {arguments.restored.name}", output)
    return values, "\n".join(_lines(report)), 0


def _check(output: Path, overwrite: bool) -> None:
    """Refuse a file that could not be written in the end."""
    check_report_file(output)
    if output.exists() and not overwrite:
        raise OutputError(f"{output.name} exists already: give another name, or --overwrite.")


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
