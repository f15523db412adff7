"""Pages of figures without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def new_page(width: float, height: float) -> Any:
    """Return an empty matplotlib figure, sides in inches.

    Raises
    ------
    OutputError
        If matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError(
            'A page of figures needs matplotlib: pip install "napari-restore-rwkv[figures]", or leave out the page.'
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_page(figure: Any, path: Path) -> None:
    """Write a figure to a .png or .pdf file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); choose another folder or name.") from error
