"""The command line: ``restore-rwkv restore | verify | finalize | export | evaluate | simulate | inspect |
qualify | finetune | train | reproduce | doctor``.

Exit codes: 0 done, 1 failed (one sentence on stderr says why and what to do), 2 usage error, 130 stopped by Ctrl-C; 143
and 129 by SIGTERM and SIGHUP, which clean up as Ctrl-C does.
With ``--json`` stdout has exactly one JSON object: the result, or ``{"error": ...}``. Everything else goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import stat
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RestoreError, sentence_of_system
from ..isolation import forget_working_folder, working_folder
from ..storage.temporary import UNPACKED, remove_abandoned
from .parser import PROGRAM, build_parser
from .signals import ending_by_signals
from .streams import prepare_streams, print_answer
from .terminal import for_terminal
from .wording import RESUME

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

FAILED, INTERRUPTED = 1, 130
# Arguments that name what is written; to `export`, "output" is what it reads.
_OUTPUTS = ("output", "file", "report")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    prepare_streams()
    if working_folder() is None:
        return _say_why("the working folder no longer exists; change to another one.")
    forget_working_folder()
    arguments = build_parser().parse_args(argv)
    with ending_by_signals() as signals:
        exit_code = _run(arguments)
    return 128 + signals[0] if signals else exit_code


def _run(arguments: argparse.Namespace) -> int:
    before = _last_changes(arguments)
    try:
        remove_abandoned(Path(tempfile.gettempdir()), UNPACKED)
        # Library output must not get between the caller and the JSON object.
        with contextlib.redirect_stdout(sys.stderr):
            values, text, exit_code = arguments.run(arguments)
        words = json.dumps(values, allow_nan=False) if arguments.json else for_terminal(text)
    except KeyboardInterrupt as stop:
        # If Ctrl-C came during an exec() in some library, Python remembers it as unhandled until the next one, and
        # would end itself by the signal instead of returning the exit code.
        exec("")
        return _fail(arguments, f"stopped; {str(stop) or _what_was_written(arguments, before)}.", INTERRUPTED)
    except RestoreError as error:
        return _fail(arguments, error.message(RESUME))
    except OSError as error:
        return _fail(arguments, sentence_of_system(error))
    except Exception as error:
        words = " ".join(str(error).split()).rstrip(".") or "no further details"
        hint = "" if arguments.debug else " Run the same command with --debug for the details."
        return _fail(arguments, f"unexpected {type(error).__name__}: {words}.{hint}")
    reason = print_answer(words)
    return _say_why(f"the result is complete, but cannot be printed ({reason}).") if reason else exit_code


def _fail(arguments: argparse.Namespace, words: str, exit_code: int = FAILED) -> int:
    if arguments.debug:
        print(for_terminal(traceback.format_exc()), file=sys.stderr)
    if arguments.json:
        print_answer(json.dumps({"error": words}))
    return _say_why(words, exit_code)


def _say_why(words: str, exit_code: int = FAILED) -> int:
    print(f"{PROGRAM}: {for_terminal(words)}", file=sys.stderr)
    return exit_code


def _what_was_written(arguments: argparse.Namespace, before: dict[Path, int]) -> str:
    """Say which of the files that a command writes have changed since `before`."""
    written = [str(path) for path, when in _last_changes(arguments).items() if before.get(path) != when]
    if not written:
        return "nothing was written"
    return f"{' and '.join(written)} {'is' if len(written) == 1 else 'are'} complete"


def _last_changes(arguments: argparse.Namespace) -> dict[Path, int]:
    """When the files that a command line names as its outputs were last written, in ns; 0 for folders."""
    changes: dict[Path, int] = {}
    for given in (getattr(arguments, name, None) for name in _OUTPUTS):
        for path in given if isinstance(given, list) else [given]:
            if not isinstance(path, Path):
                continue
            # It need not exist, and its name may be too long.
            with contextlib.suppress(OSError):
                state = path.stat()
                changes[path] = 0 if stat.S_ISDIR(state.st_mode) else state.st_mtime_ns
    return changes
