"""``restore-rwkv report``: what a restoration did to a scan, as a page, as JSON, and in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OutputError
from ..progress import finish
from ..reliability.report import report_on
from ..reliability.report_files import check_report_file, write_report
from ..scans.opening import opening
from .terminal import watch

if TYPE_CHECKING:
    from pathlib import Path

    from ..reliability.report import Report
    from .requests import Answer, ReportRequest


def report_files(request: ReportRequest) -> Answer:
    """Report on RESTORED against INPUT."""
    outputs: list[Path] = request.output or []
    for output in outputs:
        _check(output, request.overwrite)
    before, after = (finish(opening(path, request.reading)) for path in (request.input, request.restored))
    reference = None if request.reference is None else finish(opening(request.reference, request.reading))

    report = watch(report_on(before, after, reference))
    values = report.as_dict()
    for output in outputs:
        write_report(report, before, after, f"{request.input.name} and {request.restored.name}", output)
    return values, "\n".join(_lines(report)), 0


def _check(output: Path, overwrite: bool) -> None:
    """Refuse a file that could not be written in the end."""
    check_report_file(output)
    if output.exists() and not overwrite:
        raise OutputError(f"{output.name} already exists: give another name, or --overwrite.")


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
        untouched = all(one.removed.deviation == 0 for one in report.slices)
        lines.append("Nothing was removed." if untouched else "What was removed looks like noise alone in every slice.")
    lines += [f"slice {one.index}: {one.removed.reason}" for one in suspicious[:5]]
    if len(suspicious) > 5:
        lines.append(f"and {len(suspicious) - 5} more slices, listed in the .json report")
    return lines
