"""What a command prints on the terminal while it works."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..progress import Phase, Run
from ..untrusted import printable
from .wording import words_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..progress import Progress, Result


def for_terminal(text: str) -> str:
    """Return text of several lines without what a terminal would obey, or could not show, in the names of files."""
    return printable(text, keep="\n\t")


def note(words: str) -> None:
    """Print something that is neither the result nor an error."""
    print(f"restore-rwkv: {for_terminal(words)}", file=sys.stderr)


def watch(steps: Generator[Progress, Any, Result], unit: str = "slice") -> Result:
    """Run a job to its end with a progress bar on a terminal, and return its result."""
    with tqdm(unit=unit, file=sys.stderr, disable=not sys.stderr.isatty()) as bar, closing(Run(steps)) as run:
        for progress in run:
            if progress.phase in (Phase.CONNECTED, Phase.WORKERS_LOST):
                note(f"{progress.detail}.")
            bar.total = progress.total
            bar.set_description(for_terminal(words_of(progress)), refresh=False)
            bar.update(progress.done - bar.n)
        return run.result
