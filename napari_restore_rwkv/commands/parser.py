"""The command line of ``restore-rwkv``: all commands together."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from .judging_words import add_evaluate, add_inspect, add_qualify, add_report, add_simulate
from .restoring_words import add_jobs, add_restore
from .terminal import for_terminal
from .training_words import add_finetune, add_reproduce, add_train

if TYPE_CHECKING:
    from .requests import Answer

PROGRAM = "restore-rwkv"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog=PROGRAM,
        description="Restore CT, MR and PET scans with Restore-RWKV. Research use only, not for diagnosis.",
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    common.add_argument("--debug", action="store_true", help="show where in the program an error occurred")
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (auto)")
    add_restore(commands, [device, common])
    add_jobs(commands, [common])
    add_evaluate(commands, [common])
    add_report(commands, [common])
    add_simulate(commands, [common])
    add_inspect(commands, [common])
    add_qualify(commands, [common])
    add_finetune(commands, [device, common])
    add_train(commands, [common])
    add_reproduce(commands, [device, common])
    _add_doctor(commands, [device, common])
    return parser


def _add_doctor(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", parents=parents, help="check this installation and say how to fix it")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> Answer:
    from .doctor import examine, report

    return report(examine(arguments.device))


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show names without what a terminal would obey; those of the commands are of its kind."""

    def error(self, message: str) -> NoReturn:
        super().error(for_terminal(message))


class _Version(argparse.Action):
    """Show the version; looked up only when requested."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from .. import __version__

        print(f"{PROGRAM} {__version__}")
        parser.exit()
