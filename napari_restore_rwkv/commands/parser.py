"""The commands of ``restore-rwkv``, their arguments, and what runs them."""

from __future__ import annotations

import argparse
from typing import Any

from ..tasks import MODALITIES, TASKS
from .arguments import Window, index, part, path, positive, strength, tile
from .training_words import add_reproduce, add_train

PROGRAM = "restore-rwkv"
EXAMPLE = """\
Fine-tune weights on your own scans. A part of the slices is held out; the new weights are kept only if they restore
those better by more than 0.1 dB with SSIM no worse. CONFIG is a TOML file; names in it are relative to it:

  weights = "ct-denoise"               # a task with shipped weights, a weights file, or a bundle
  output = "our-scanner.restorerwkv"   # the bundle, if it is accepted; by default in your folder of bundles
  folder = "fine-tuning"               # keeps the state: the same command goes on after an interruption

  [[scans]]                            # once for each scan; a degraded one, a reference, or both
  degraded = "low_dose.nii.gz"
  target = "full_dose.nii.gz"
  labels = "labels.nii.gz"             # 1 train here, 2 emphasise, 3 ignore, 4 keep as is, 5 hold out
  modality = "CT"                      # where the files do not say
  # strength = 1.0                     # of the simulated degradation, where there is a reference only; or
  # strength_like = "noisy.nii.gz"     # as strong as the noise of this scan

  # [[folders]]                        # files of the same name in two folders, or in one of them
  # degraded = "low_dose"
  # target = "full_dose"

  [options]
  steps = 500                          # 300 to 2000 for the light network
  seed = 0
  # adapter_rank = 8                   # 0 trains all weights; by default adapters for the full network only
  # learning_rate = 2e-4
  # score_every = 50
  # task = "ct-denoise"                # for weights that do not say what they are for
  # axis = "auto"
  # force = false                      # go on with a pair that is shifted by more than a pixel
  # title = "our scanner, soft kernel"
"""
FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", ".ome.zarr")
# The tasks that can be simulated, and what their strength is; here, because the simulation itself needs torch.
SIMULATED = {
    "ct-denoise": "noise relative to quarter dose (1)",
    "mri-sr": "loss of resolution, 1 to 8 (2)",
    "pet-low-count": "one in this many counts is kept (12)",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Restore CT, MR and PET scans with Restore-RWKV. Research use only, not for diagnosis.",
    )
    parser.add_argument("--version", action=_Version, help="show the version and leave")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    common.add_argument("--debug", action="store_true", help="show where in the program an error arose")
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (auto)")
    _add_restore(commands, [device, common])
    _add_jobs(commands, [common])
    _add_evaluate(commands, [common])
    _add_report(commands, [common])
    _add_simulate(commands, [common])
    _add_inspect(commands, [common])
    _add_qualify(commands, [common])
    _add_finetune(commands, [device, common])
    add_train(commands, [common])
    add_reproduce(commands, [device, common])
    _add_doctor(commands, [device, common])
    return parser


def _add_restore(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("restore", parents=parents, help="restore a scan and write the result")
    parser.add_argument(
        "input", type=path, metavar="INPUT", help="a scan (NIfTI, NRRD, MHA/MHD, HDF5, zarr, DICOM folder), or many"
    )
    parser.add_argument(
        "output",
        type=path,
        metavar="OUTPUT",
        help="file to write, such as restored.nii.gz; a folder such as restored.ome.zarr, for scans larger than memory "
        "and jobs that go on after a crash; or a folder for the results of a folder of scans",
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="what to do; by default what the weights or the scan say")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--checkpoint", type=path, metavar="FILE", help="weights to use instead of those shipped")
    instead.add_argument("--classical", action="store_true", help="use the classical filter for the task, no network")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="direction that slices follow")
    parser.add_argument("--threads", type=positive, metavar="N", help="processor threads to use at most")
    parser.add_argument(
        "--strength",
        type=strength,
        metavar="0..1",
        help="part of the change that is made; by default what suits the noise of the scan, which is 1 unless the "
        "weights were made for other noise",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="numbers to compute in; the result tells how far the short ones are from float32 (float32)",
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="slices at once on a GPU, at most (what fits)")
    parser.add_argument(
        "--tile",
        type=tile,
        metavar="SIZE[,OVERLAP]",
        help="restore large slices in tiles of so many pixels: less memory, and an approximate result (whole slices)",
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "int16", "uint16", "int32"),
        default="auto",
        help="voxel type of the result (auto: that of the scan where it is a 16-bit or wider integer, else float32)",
    )
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    _dicom_switches(parser)
    _allow_outside_files(parser)
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--any-modality", action="store_true", help="allow weights that were made for another modality")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    parser.add_argument("--channel", type=index, metavar="N", help="which channel of a zarr with several, from 0")
    parser.add_argument("--resume", action="store_true", help="go on with an OUTPUT that was begun, or begin it")
    parser.add_argument("--part", type=part, metavar="I/N", help="do the I-th of N parts; then: finalize OUTPUT")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="share the work through this dask scheduler")
    parser.add_argument("--format", choices=FORMATS, help="of the results of a folder (that of each scan)")
    parser.set_defaults(run=_restore)


def _dicom_switches(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", metavar="N", help="which of several DICOM series: its number or the end of its UID")
    parser.add_argument(
        "--correct-tilt",
        action="store_true",
        help="shift DICOM slices of a tilted gantry back, which interpolates between pixels",
    )


def _allow_outside_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-outside-files",
        action="store_true",
        help="read files that a scan refers to outside of its own folder; only for scans that you trust",
    )


def _add_jobs(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    for name, run, words in (
        ("verify", _verify, "compare every file of an OME-Zarr result with its digest"),
        ("finalize", _finalize, "mark a result complete whose parts are done"),
        ("export", _export, "write a result as NIfTI, NRRD, MHA/MHD or a DICOM series"),
    ):
        parser = commands.add_parser(name, parents=parents, help=words)
        parser.add_argument("output", type=path, metavar="OUTPUT", help="an OME-Zarr result")
        if name == "export":
            parser.add_argument(
                "file", type=path, metavar="FILE", help="file to write, such as restored.nii.gz, or a DICOM folder"
            )
            parser.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")
            parser.add_argument(
                "--dicom-from",
                type=path,
                metavar="SERIES",
                help="write FILE as a folder of DICOM slices, derived from this series, which was restored",
            )
            parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, from 0")
            _dicom_switches(parser)
        parser.set_defaults(run=run)


def _add_evaluate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", parents=parents, help="PSNR, SSIM and RMSE against a reference scan")
    parser.add_argument("restored", type=path, metavar="RESTORED", help="the scan to score")
    parser.add_argument("reference", type=path, metavar="REFERENCE", help="the scan that it should be")
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        action=Window,
        metavar=("LO", "HI"),
        help="truncate both to LO..HI first, such as -160 240 for CT in HU",
    )
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    _dicom_switches(parser)
    _allow_outside_files(parser)
    parser.set_defaults(run=_evaluate)


def _add_report(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("report", parents=parents, help="what a restoration did to a scan, slice by slice")
    parser.add_argument("input", type=path, metavar="INPUT", help="the scan before")
    parser.add_argument("restored", type=path, metavar="RESTORED", help="the scan after")
    parser.add_argument("--reference", type=path, metavar="REFERENCE", help="the scan that it should be, if any")
    parser.add_argument(
        "--output", type=path, nargs="+", metavar="FILE", help="pages and figures to write: .png, .pdf, .json"
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    _dicom_switches(parser)
    _allow_outside_files(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(run=_report)


def _add_simulate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("simulate", parents=parents, help="make a good scan worse, to try restoration out")
    parser.add_argument("input", type=path, metavar="INPUT", help="a good scan: NIfTI, NRRD, MHA/MHD or DICOM folder")
    parser.add_argument("output", type=path, metavar="OUTPUT", help="file to write, such as noisy.nii.gz")
    parser.add_argument("--task", choices=tuple(SIMULATED), required=True, help="what a restoration would put right")
    parser.add_argument("--seed", type=index, required=True, metavar="N", help="seed of the noise, from 0")
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="; ".join(f"{task}: {meaning}" for task, meaning in SIMULATED.items()),
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    _dicom_switches(parser)
    _allow_outside_files(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    parser.set_defaults(run=_simulate)


def _add_inspect(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("inspect", parents=parents, help="what a scan is, its noise, and what is proposed")
    parser.add_argument("input", type=path, metavar="SCAN", help="a scan of any kind that can be restored")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="direction that slices follow")
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--time-index", type=index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    parser.add_argument("--channel", type=index, metavar="N", help="which channel of a zarr with several, from 0")
    _dicom_switches(parser)
    _allow_outside_files(parser)
    parser.set_defaults(run=_inspect)


def _add_qualify(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "qualify", parents=parents, help="what weights do to noise, sharpness, faint things and values, on phantoms"
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="whose shipped weights, or classical filter (ct-denoise)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--checkpoint", type=path, metavar="FILE", help="weights to judge instead of those shipped")
    instead.add_argument("--classical", action="store_true", help="judge the classical filter of the task")
    parser.add_argument("--modality", choices=MODALITIES, help="the phantoms, for weights that take any modality")
    parser.add_argument("--quick", action="store_true", help="the most telling conditions only, a minute or two")
    parser.add_argument(
        "--report", type=path, metavar="FILE", help="page of figures, as PDF and PNG, with the table as JSON beside it"
    )
    parser.add_argument("--background", type=path, metavar="SCAN", help="CT in which faint discs are put (the sample)")
    parser.add_argument("--seed", type=index, default=0, metavar="N", help="seed of the noise, from 0 (0)")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="so many seeds, and their spread (1)")
    parser.set_defaults(run=_qualify)


def _add_finetune(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "finetune",
        parents=parents,
        help="fit weights to your own scans, and keep them only if they are better",
        description=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=path, metavar="CONFIG", help="TOML file that says what to learn from")
    parser.set_defaults(run=_finetune)


def _add_doctor(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", parents=parents, help="check this installation and say how to mend it")
    parser.set_defaults(run=_doctor)


# What a command needs is imported when it runs, so that --help answers at once.
def _restore(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .restore import restore_command

    return restore_command(arguments)


def _verify(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .results import verify_result

    return verify_result(arguments)


def _finalize(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .results import finalize_result

    return finalize_result(arguments)


def _export(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .results import export_result

    return export_result(arguments)


def _evaluate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .evaluate import evaluate_files

    return evaluate_files(arguments)


def _report(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .report import report_files

    return report_files(arguments)


def _simulate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .simulate import simulate_file

    return simulate_file(arguments)


def _inspect(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .inspect_scan import inspect_scan

    return inspect_scan(arguments)


def _qualify(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .qualify import qualify_weights

    return qualify_weights(arguments)


def _finetune(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .finetune import fine_tune_from_file

    return fine_tune_from_file(arguments)


def _doctor(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .doctor import examine, report

    return report(examine(arguments.device))


class _Version(argparse.Action):
    """Show the version; looked up only when asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from .. import __version__

        print(f"{PROGRAM} {__version__}")
        parser.exit()
