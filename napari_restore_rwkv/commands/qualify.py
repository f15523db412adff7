"""``restore-rwkv qualify``: what weights do to noise, sharpness, faint objects and values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, ScanError
from ..scans.files import read_scan
from ..storage.durable import check_folder_of, write_output
from ..tasks import TASKS
from .terminal import note, watch

if TYPE_CHECKING:
    from pathlib import Path

    from .requests import Answer, QualifyRequest

# Suffixes of the page of figures of a report.
FIGURES = (".pdf", ".png")


def qualify_weights(request: QualifyRequest) -> Answer:
    """Judge weights, or the classical filter; exit code 1 if a limit is missed."""
    if request.report is not None:
        _check_report(request.report, request.overwrite)
    background = None if request.background is None else read_scan(request.background)
    if request.classical and not request.task:
        raise ScanError("Choose the classical filter to judge with --task.")

    # Imported this late because torch takes seconds, and a wrong argument should be reported at once.
    from ..image_quality.qualify import qualify
    from ..network.checkpoint import load_checkpoint

    task = request.task or "ct-denoise"
    network = None if request.classical else load_checkpoint(request.checkpoint or task)
    modality = request.modality or (TASKS[task].modality if request.task or network is None else None)
    options: dict[str, Any] = {
        "quick": request.quick,
        "seed": request.seed,
        "seeds": request.seeds,
        "background": background,
    }
    found = watch(qualify(network, modality, **options))
    values, text = found.as_dict(), found.table()
    if request.report is not None:
        from ..image_quality.figures import draw_page

        stem = request.report.with_suffix("")
        draw_page(found, [stem.with_suffix(suffix) for suffix in FIGURES])
        write_output(stem.with_suffix(".json"), json.dumps(values, indent=2).encode() + b"\n")
        note(f"figures in {stem.with_suffix('.pdf')} and .png, the table in {stem.with_suffix('.json')}.")
    return values, text, 1 if found.misses else 0


def _check_report(report: Path, overwrite: bool) -> None:
    """Refuse a report that could not be written in the end."""
    if report.suffix.lower() not in FIGURES:
        raise OutputError(f"{report.name} is not a .pdf or .png file: give one of the two; both are written.")
    check_folder_of(report)
    # The card of weights is beside them, too.
    there = [file for suffix in (*FIGURES, ".json") if (file := report.with_suffix(suffix)).exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0].name} already exists: give another name, or --overwrite.")
