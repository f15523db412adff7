"""Pages of figures without a display, drawn the same whatever the settings, and the words of a file as they are."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..storage.durable import write_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@contextlib.contextmanager
def page(width: float, height: float, paths: Sequence[Path]) -> Iterator[Any]:
    """Give an empty matplotlib figure, sides in inches, and write it to .png or .pdf files at the end of the context.

    Raises
    ------
    OutputError
        If matplotlib is missing, or a file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError(
            'A page of figures needs matplotlib: pip install "napari-restore-rwkv[figures]", or leave out the page.'
        ) from error
    with matplotlib.rc_context():
        # A file matplotlibrc beside the scans would be obeyed, and could have LaTeX read any file into the page.
        matplotlib.rcdefaults()
        # Dollar signs in the name of a scan are no formula.
        matplotlib.rcParams["text.parse_math"] = False
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        for path in paths:
            content = io.BytesIO()
            figure.savefig(content, format=path.suffix[1:].lower(), dpi=150)
            write_output(path, content.getvalue())
