"""What a command says to the person at the terminal while it works."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..progress import Progress, Result


def note(words: str) -> None:
    """Tell something that is neither the result nor an error."""
    print(f"restore-rwkv: {words}", file=sys.stderr)


def watch(steps: Generator[Progress, Any, Result], unit: str = "slice") -> Result:
    """Run a job to its end with a progress bar on a terminal, and return its result."""
    with tqdm(unit=unit, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        try:
            while True:
                progress = next(steps)
                bar.total = progress.total
                bar.set_description(progress.what, refresh=False)
                bar.update(progress.done - bar.n)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()
