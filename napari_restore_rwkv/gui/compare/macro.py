"""What the Compare panel did, as lines of Python that do the same again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...reliability.report import CT_WINDOW_HU
from ..macro import layer_in_python

if TYPE_CHECKING:
    from napari.layers import Layer

    from ..restore.comparison import Comparison

_BEGIN = "from napari_restore_rwkv import finish\nfrom napari_restore_rwkv.gui.layers import layer_to_scan\n"


def judged_as_python(comparison: Comparison) -> str:
    """Return lines for napari's console, where `viewer` is the window, that judge all restored slices again."""
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.report import report_on\n"
        f"report = finish(report_on({_pair(comparison)}, {_slices(comparison)}))"
    )


def measured_as_python(comparison: Comparison, reference: Layer | None) -> str:
    """Return lines that measure the whole volume again, beside a reference where there is one."""
    words = [_pair(comparison)]
    words += [] if reference is None else [f"layer_to_scan({layer_in_python(reference.name)}).voxels"]
    words += [_slices(comparison)]
    words += [f"window={CT_WINDOW_HU}"] if comparison.result.scan.modality == "CT" else []
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.volume_figures import volume_figures\n"
        f"figures = finish(volume_figures({', '.join(words)}))"
    )


def _pair(comparison: Comparison) -> str:
    layers = (comparison.input, comparison.restored)
    return ", ".join(f"layer_to_scan({layer_in_python(layer.name)})" for layer in layers)


def _slices(comparison: Comparison) -> str:
    return f"indices={sorted(comparison.result.finished)}, axis={comparison.result.axis}"
