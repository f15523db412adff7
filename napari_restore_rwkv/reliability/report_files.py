"""A report in a file: a page as .png or .pdf, or everything as .json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError
from ..restoration.plan import region_of
from ..scans.scan import AXES
from ..storage.durable import write_output
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
    if not output.parent.is_dir():
        raise OutputError(f"The folder {output.parent} does not exist: create it first, or choose another.")


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
    axis = AXES.index(report.axis)
    region = region_of(before, axis, first_to_look_at(report).index)
    images = [np.asarray(scan.voxels[region]).squeeze(axis) for scan in (before, after)]
    draw_page(report, images[0], images[1], title, output)
