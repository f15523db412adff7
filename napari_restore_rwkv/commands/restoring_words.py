"""The arguments of the commands that restore, and of those for their results: ``verify``, ``finalize``, ``export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..tasks import MODALITIES, TASKS
from .arguments import allow_outside_files, dicom_switches, index, part, path, positive, strength, tile
from .requests import ExportRequest, RestoreRequest, ResultRequest, command

if TYPE_CHECKING:
    import argparse

FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", ".ome.zarr")


def add_restore(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``restore INPUT OUTPUT``."""
    parser = commands.add_parser("restore", parents=parents, help="restore a scan and write the result")
    parser.add_argument(
        "input",
        type=path,
        metavar="INPUT",
        help="a scan (NIfTI, NRRD, MHA/MHD, HDF5, TIFF, zarr, DICOM folder), or a folder of scans",
    )
    parser.add_argument(
        "output",
        type=path,
        metavar="OUTPUT",
        help="file to write, such as restored.nii.gz; a folder such as restored.ome.zarr, for scans larger than memory "
        "and jobs that can continue after a crash; or a folder for the results of a folder of scans",
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="what to do; by default what the weights or the scan say")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--checkpoint", type=path, metavar="FILE", help="weights to use instead of those shipped")
    instead.add_argument("--classical", action="store_true", help="use the classical filter for the task, no network")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="axis across the slices")
    parser.add_argument("--threads", type=positive, metavar="N", help="maximum number of CPU threads")
    parser.add_argument(
        "--strength",
        type=strength,
        metavar="0..1",
        help="fraction of the change to apply; by default what suits the noise of the scan, which is 1 unless the "
        "weights were made for other noise",
    )
    _add_precision_and_memory(parser)
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "int16", "uint16", "int32"),
        default="auto",
        help="voxel type of the result (auto: that of the scan if it is a 16-bit or wider integer, else float32)",
    )
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    dicom_switches(parser)
    allow_outside_files(parser)
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--any-modality", action="store_true", help="allow weights that were made for another modality")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    parser.add_argument("--channel", type=index, metavar="N", help="which channel of a zarr with several, from 0")
    parser.add_argument("--resume", action="store_true", help="continue an unfinished OUTPUT, or start it")
    parser.add_argument("--part", type=part, metavar="I/N", help="do the I-th of N parts; then: finalize OUTPUT")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="distribute the work through this dask scheduler")
    parser.add_argument("--format", choices=FORMATS, help="for the results of a folder (that of each scan)")
    parser.set_defaults(run=command(RestoreRequest, "restore", "restore_command"))


def _add_precision_and_memory(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision``, ``--batch`` and ``--tile``: how exact the result is, and how much memory it takes."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="precision to compute in; the result says how far lower precision is from float32 (float32)",
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="maximum number of slices at once on a GPU (what fits)"
    )
    parser.add_argument(
        "--tile",
        type=tile,
        metavar="SIZE[,OVERLAP]",
        help="restore large slices in tiles of this many pixels: less memory, but an approximate result (whole slices)",
    )


def add_jobs(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add ``verify``, ``finalize`` and ``export``."""
    for name, kind, function, words in (
        ("verify", ResultRequest, "verify_result", "compare every file of an OME-Zarr result with its digest"),
        ("finalize", ResultRequest, "finalize_result", "mark a result complete once its parts are done"),
        ("export", ExportRequest, "export_result", "write a result as NIfTI, NRRD, MHA/MHD or a DICOM series"),
    ):
        parser = commands.add_parser(name, parents=parents, help=words)
        parser.add_argument("output", type=path, metavar="OUTPUT", help="an OME-Zarr result")
        if name == "export":
            parser.add_argument(
                "file", type=path, metavar="FILE", help="file to write, such as restored.nii.gz, or a DICOM folder"
            )
            parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
            parser.add_argument(
                "--dicom-from",
                type=path,
                metavar="SERIES",
                help="write FILE as a folder of DICOM slices, derived from this series, the one that was restored",
            )
            parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, from 0")
            dicom_switches(parser)
        parser.set_defaults(run=command(kind, "results", function))
