"""The command line: ``restore-rwkv restore | verify | finalize | export | evaluate | simulate | finetune | doctor``.

Exit codes: 0 done, 1 failed (one sentence on stderr says why and what to do), 2 wrong usage, 130 stopped by Ctrl-C.
With ``--json`` stdout carries exactly one JSON object: the result, or ``{"error": ...}``. All else goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RestoreError
from .tasks import MODALITIES, TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

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
FAILED, INTERRUPTED = 1, 130
FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha", ".ome.zarr")
# The tasks that can be simulated, and what their strength is; here, because the simulation itself needs torch.
SIMULATED = {
    "ct-denoise": "noise relative to quarter dose (1)",
    "mri-sr": "loss of resolution, 1 to 8 (2)",
    "pet-low-count": "one in this many counts is kept (12)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    before = _last_change(arguments)
    try:
        # What a library prints must not land between the caller and the JSON object.
        with contextlib.redirect_stdout(sys.stderr):
            values, text, exit_code = arguments.run(arguments)
        answer = json.dumps(values, allow_nan=False) if arguments.json else text
    except KeyboardInterrupt as stop:
        # If Ctrl-C fell into an exec() of some library, Python remembers it as unhandled until the next one, and would
        # end itself by the signal instead of returning the exit code.
        exec("")
        what = "nothing was written" if _last_change(arguments) == before else f"{arguments.output} is complete"
        return _fail(arguments, f"stopped; {str(stop) or what}.", INTERRUPTED)
    except RestoreError as error:
        return _fail(arguments, str(error))
    except Exception as error:
        words = " ".join(str(error).split()).rstrip(".") or "no further words"
        hint = "" if arguments.debug else " Run the same command with --debug for the details."
        return _fail(arguments, f"unexpected {type(error).__name__}: {words}.{hint}")
    print(answer)
    return exit_code


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
    _add_simulate(commands, [common])
    _add_finetune(commands, [device, common])
    _add_doctor(commands, [device, common])
    return parser


def _add_restore(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("restore", parents=parents, help="restore a scan and write the result")
    parser.add_argument(
        "input", type=_path, metavar="INPUT", help="a scan (NIfTI, NRRD, MHA/MHD, HDF5, zarr, DICOM folder), or many"
    )
    parser.add_argument(
        "output",
        type=_path,
        metavar="OUTPUT",
        help="file to write, such as restored.nii.gz; a folder such as restored.ome.zarr, for scans larger than memory "
        "and jobs that go on after a crash; or a folder for the results of a folder of scans",
    )
    parser.add_argument("--task", choices=tuple(TASKS), help="what to do; by default what the weights or the scan say")
    parser.add_argument("--checkpoint", type=_path, metavar="FILE", help="weights to use instead of those shipped")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="direction that slices follow")
    parser.add_argument("--threads", type=_positive, metavar="N", help="processor threads to use at most")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="numbers to compute in; the result tells how far the short ones are from float32 (float32)",
    )
    parser.add_argument("--batch", type=_positive, metavar="N", help="slices at once on a GPU, at most (what fits)")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "int16", "uint16", "int32"),
        default="auto",
        help="voxel type of the result (auto: that of the scan where it is a 16-bit or wider integer, else float32)",
    )
    parser.add_argument("--time-index", type=_index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--any-modality", action="store_true", help="allow weights that were made for another modality")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    parser.add_argument("--channel", type=_index, metavar="N", help="which channel of a zarr with several, from 0")
    parser.add_argument("--resume", action="store_true", help="go on with an OUTPUT that was begun, or begin it")
    parser.add_argument("--part", type=_part, metavar="I/N", help="do the I-th of N parts; then: finalize OUTPUT")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="share the work through this dask scheduler")
    parser.add_argument("--format", choices=FORMATS, help="of the results of a folder (that of each scan)")
    parser.set_defaults(run=_restore)


def _add_jobs(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    for name, run, words in (
        ("verify", _verify, "compare every file of an OME-Zarr result with its digest"),
        ("finalize", _finalize, "mark a result complete whose parts are done"),
        ("export", _export, "write a result as NIfTI, NRRD or MHA/MHD"),
    ):
        parser = commands.add_parser(name, parents=parents, help=words)
        parser.add_argument("output", type=_path, metavar="OUTPUT", help="an OME-Zarr result")
        if name == "export":
            parser.add_argument("file", type=_path, metavar="FILE", help="file to write, such as restored.nii.gz")
            parser.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")
        parser.set_defaults(run=run)


def _add_evaluate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("evaluate", parents=parents, help="PSNR, SSIM and RMSE against a reference scan")
    parser.add_argument("restored", type=_path, metavar="RESTORED", help="the scan to score")
    parser.add_argument("reference", type=_path, metavar="REFERENCE", help="the scan that it should be")
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        action=_Window,
        metavar=("LO", "HI"),
        help="truncate both to LO..HI first, such as -160 240 for CT in HU",
    )
    parser.add_argument("--time-index", type=_index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    parser.set_defaults(run=_evaluate)


def _add_simulate(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("simulate", parents=parents, help="make a good scan worse, to try restoration out")
    parser.add_argument("input", type=_path, metavar="INPUT", help="a good scan: NIfTI, NRRD, MHA/MHD or DICOM folder")
    parser.add_argument("output", type=_path, metavar="OUTPUT", help="file to write, such as noisy.nii.gz")
    parser.add_argument("--task", choices=tuple(SIMULATED), required=True, help="what a restoration would put right")
    parser.add_argument("--seed", type=_index, required=True, metavar="N", help="seed of the noise, from 0")
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="; ".join(f"{task}: {meaning}" for task, meaning in SIMULATED.items()),
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the scan is, where its file does not say")
    parser.add_argument("--time-index", type=_index, metavar="N", help="which volume of a 4-D scan, counted from 0")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT where it exists")
    parser.set_defaults(run=_simulate)


def _add_finetune(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "finetune",
        parents=parents,
        help="fit weights to your own scans, and keep them only if they are better",
        description=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=_path, metavar="CONFIG", help="TOML file that says what to learn from")
    parser.set_defaults(run=_finetune)


def _add_doctor(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", parents=parents, help="check this installation and say how to mend it")
    parser.set_defaults(run=_doctor)


# What a command needs is imported when it runs, so that --help answers at once.
def _restore(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .job_commands import restore_command

    return restore_command(arguments)


def _verify(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .job_commands import verify_result

    return verify_result(arguments)


def _finalize(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .job_commands import finalize_result

    return finalize_result(arguments)


def _export(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .job_commands import export_result

    return export_result(arguments)


def _evaluate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .commands import evaluate_files

    return evaluate_files(arguments)


def _simulate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .commands import simulate_file

    return simulate_file(arguments)


def _finetune(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .finetune_command import fine_tune_from_file

    return fine_tune_from_file(arguments)


def _doctor(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .doctor import examine, report

    return report(examine(arguments.device))


def _fail(arguments: argparse.Namespace, words: str, exit_code: int = FAILED) -> int:
    if arguments.debug:
        traceback.print_exc()
    print(f"{PROGRAM}: {words}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"error": words}))
    return exit_code


def _last_change(arguments: argparse.Namespace) -> int | None:
    """When the output file was last written, in ns; None where there is none."""
    try:
        return int(arguments.output.stat().st_mtime_ns)
    except (AttributeError, OSError):
        return None


class _Version(argparse.Action):
    """Show the version; looked up only when asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from . import __version__

        print(f"{PROGRAM} {__version__}")
        parser.exit()


class _Window(argparse.Action):
    """Two finite numbers, the low one first."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        low, high = values
        if not (math.isfinite(low) and math.isfinite(high)):
            parser.error(f"--window {low:g} {high:g} has no finite ends: give two numbers, such as -160 240")
        if not low < high:
            parser.error(f"--window {low:g} {high:g} is empty: give the low end first")
        namespace.window = (low, high)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name is blank: give that of a file or folder")
    return Path(text)


def _positive(text: str) -> int:
    return _whole_number(text, 1)


def _index(text: str) -> int:
    return _whole_number(text, 0)


def _part(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f'"{text}" is no part: give I/N, such as 1/8 for the first of eight')
    return int(number), int(count)


def _whole_number(text: str, least: int) -> int:
    words = f'"{text}" is not a whole number from {least} on'
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(words) from error
    if number < least:
        raise argparse.ArgumentTypeError(words)
    return number
