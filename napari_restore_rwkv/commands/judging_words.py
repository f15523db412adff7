"""The arguments of the commands that examine scans, results and weights, and of ``simulate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tasks import MODALITIES, TASKS
from .arguments import Window, allow_outside_files, dicom_switches, index, path, positive
from .requests import EvaluateRequest, InspectRequest, QualifyRequest, ReportRequest, SimulateRequest, command

if TYPE_CHECKING:
    import argparse

# The tasks that can be simulated, and what their strength means; here, because the simulation itself needs torch.
SIMULATED = {
    "ct-denoise": "noise relative to quarter dose (1)",
    "mri-sr": "loss of resolution, 1 to 8 (2)",
    "pet-low-count": "one in this many counts is kept (12)",
}


def add_evaluate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``evaluate RESTORED REFERENCE``."""
    parser = commands.add_parser("evaluate", parents=parents, help="PSNR, SSIM and RMSE against a reference scan")
    parser.add_argument("restored", type=path, metavar="RESTORED", help="the scan to score")
    parser.add_argument("reference", type=path, metavar="REFERENCE", help="the reference scan")
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        action=Window,
        metavar=("LO", "HI"),
        help="clip both to LO..HI first, such as -160 240 for CT in HU",
    )
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    dicom_switches(parser)
    allow_outside_files(parser)
    parser.set_defaults(run=command(EvaluateRequest, "evaluate", "evaluate_files"))


def add_report(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``report INPUT RESTORED``."""
    parser = commands.add_parser("report", parents=parents, help="what a restoration did to a scan, slice by slice")
    parser.add_argument("input", type=path, metavar="INPUT", help="the scan before")
    parser.add_argument("restored", type=path, metavar="RESTORED", help="the scan after")
    parser.add_argument("--reference", type=path, metavar="REFERENCE", help="the reference scan, if any")
    parser.add_argument(
        "--output", type=path, nargs="+", metavar="FILE", help="pages and figures to write: .png, .pdf, .json"
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    dicom_switches(parser)
    allow_outside_files(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(run=command(ReportRequest, "report", "report_files"))


def add_simulate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``simulate INPUT OUTPUT``."""
    parser = commands.add_parser("simulate", parents=parents, help="degrade a good scan, to try out restoration")
    parser.add_argument("input", type=path, metavar="INPUT", help="a good scan: NIfTI, NRRD, MHA/MHD or DICOM folder")
    parser.add_argument("output", type=path, metavar="OUTPUT", help="file to write, such as noisy.nii.gz")
    parser.add_argument("--task", choices=tuple(SIMULATED), required=True, help="what a restoration would undo")
    parser.add_argument("--seed", type=index, required=True, metavar="N", help="seed of the noise, from 0")
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="; ".join(f"{task}: {meaning}" for task, meaning in SIMULATED.items()),
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    dicom_switches(parser)
    allow_outside_files(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    parser.set_defaults(run=command(SimulateRequest, "simulate", "simulate_file"))


def add_inspect(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``inspect SCAN``."""
    parser = commands.add_parser("inspect", parents=parents, help="what a scan is, its noise, and what is proposed")
    parser.add_argument("input", type=path, metavar="SCAN", help="a scan of any kind that can be restored")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="axis across the slices")
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    parser.add_argument("--channel", type=index, metavar="N", help="which channel of a zarr with several, from 0")
    dicom_switches(parser)
    allow_outside_files(parser)
    parser.set_defaults(run=command(InspectRequest, "inspect_scan", "inspect_scan"))


def add_qualify(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``qualify``."""
    parser = commands.add_parser(
        "qualify", parents=parents, help="what weights do to noise, sharpness, faint objects and values, on phantoms"
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="whose shipped weights, or classical filter (ct-denoise)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--checkpoint", type=path, metavar="FILE", help="weights to judge instead of those shipped")
    instead.add_argument("--classical", action="store_true", help="judge the classical filter of the task")
    parser.add_argument("--modality", choices=MODALITIES, help="the phantoms, for weights that take any modality")
    parser.add_argument("--quick", action="store_true", help="only the most informative conditions, a minute or two")
    parser.add_argument(
        "--report", type=path, metavar="FILE", help="page of figures, as PDF and PNG, with the table as JSON beside it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files of the report that exist")
    parser.add_argument(
        "--background", type=path, metavar="SCAN", help="CT scan to insert faint discs into (the sample)"
    )
    parser.add_argument("--seed", type=index, default=0, metavar="N", help="seed of the noise, from 0 (0)")
    parser.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="number of seeds, to report their spread (1)"
    )
    parser.set_defaults(run=command(QualifyRequest, "qualify", "qualify_weights"))
