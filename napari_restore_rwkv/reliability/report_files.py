"""A report in a file: a page as .png or .pdf, or everything as .json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..errors import OutputError
from ..scans.scan import AXES, slice_of
from ..storage.durable import check_folder_of, write_output
from .page import draw_page, first_to_look_at

if TYPE_CHECKING:
    from pathlib import Path

    from ..scans.scan import Scan
    from .report import Report

SUFFIXES = (".png", ".pdf", ".json")


def check_report_file(output: Path) -> None:
    """Refuse a file that could not be written in the end.

    Raises
    ------
    OutputError
        If it has another type, or its folder does not exist.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{output.name} has the wrong suffix: a report is written as {', '.join(SUFFIXES)}; give one of those."
        )
    check_folder_of(output)


def write_report(report: Report, before: Scan, after: Scan, title: str, output: Path) -> None:
    """Write a report on two scans, which are read only as far as the page shows them.

    Raises
    ------
    OutputError
        If matplotlib is missing for a page, or the file cannot be written.
    """
    if output.suffix.lower() == ".json":
        write_output(output, json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        return
    axis, index = AXES.index(report.axis), first_to_look_at(report).index
    images = [slice_of(scan.voxels, axis, index) for scan in (before, after)]
    draw_page(report, images[0], images[1], title, output)
