"""The command line: ``restore-rwkv restore | evaluate | doctor``.

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
FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = build_parser().parse_args(argv)
    before = _last_change(arguments)
    try:
        # What a library prints must not land between the caller and the JSON object.
        with contextlib.redirect_stdout(sys.stderr):
            values, text, exit_code = arguments.run(arguments)
        answer = json.dumps(values, allow_nan=False) if arguments.json else text
    except KeyboardInterrupt:
        # If Ctrl-C fell into an exec() of some library, Python remembers it as unhandled until the next one, and would
        # end itself by the signal instead of returning the exit code.
        exec("")
        what = "nothing was written" if _last_change(arguments) == before else f"{arguments.output} is complete"
        return _fail(arguments, f"stopped; {what}.", INTERRUPTED)
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
    _add_evaluate(commands, [common])
    _add_doctor(commands, [device, common])
    return parser


def _add_restore(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("restore", parents=parents, help="restore a scan and write the result")
    parser.add_argument("input", type=_path, metavar="INPUT", help="NIfTI, NRRD, MHA/MHD file or DICOM series folder")
    parser.add_argument("output", type=_path, metavar="OUTPUT", help="file to write, such as restored.nii.gz")
    parser.add_argument("--task", choices=tuple(TASKS), help="what to do; by default what the weights or the scan say")
    parser.add_argument("--checkpoint", type=_path, metavar="FILE", help="weights to use instead of those shipped")
    parser.add_argument("--axis", choices=("auto", "z", "y", "x"), default="auto", help="direction that slices follow")
    parser.add_argument("--threads", type=_positive, metavar="N", help="processor threads to use at most")
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
    parser.set_defaults(run=_restore)


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


def _add_doctor(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", parents=parents, help="check this installation and say how to mend it")
    parser.set_defaults(run=_doctor)


# What a command needs is imported when it runs, so that --help answers at once.
def _restore(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .commands import restore_file

    return restore_file(arguments)


def _evaluate(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    from .commands import evaluate_files

    return evaluate_files(arguments)


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


def _whole_number(text: str, least: int) -> int:
    words = f'"{text}" is not a whole number from {least} on'
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(words) from error
    if number < least:
        raise argparse.ArgumentTypeError(words)
    return number
