"""What the Compare panel did, as lines of Python that repeat it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...reliability.report import CT_WINDOW_HU
from ..macro import layer_in_python, scan_in_python
from .slice_map_steps import restoration_keywords

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Layer

    from ...reliability.contrast_map import Probe
    from ..options import RestoreOptions
    from .comparison import Comparison

_BEGIN = "from napari_restore_rwkv import finish\nfrom napari_restore_rwkv.gui.layers import layer_to_scan\n"
_BLEND = "from napari_restore_rwkv.restoration.detail import Blend\n"


def judged_as_python(comparison: Comparison) -> str:
    """Return lines for napari's console, where `viewer` is the window, that judge all restored slices."""
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.report import report_on\n"
        f"report = finish(report_on({_pair(comparison)}, {_slices(comparison)}))"
    )


def measured_as_python(comparison: Comparison, reference: Layer | None) -> str:
    """Return lines that measure the whole volume, against a reference if there is one."""
    words = [_pair(comparison)]
    words += [] if reference is None else [f"layer_to_scan({layer_in_python(reference.name)}).voxels"]
    words += [_slices(comparison)]
    words += [f"window={CT_WINDOW_HU}"] if comparison.result.scan.modality == "CT" else []
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.volume_figures import volume_figures\n"
        f"figures = finish(volume_figures({', '.join(words)}))"
    )


def lost_as_python(options: RestoreOptions, comparison: Comparison, index: int, probe: Probe) -> str:
    """Return lines that map how much of a probe's contrast a slice keeps."""
    words = [*_slice_again(options, index), f"Probe({probe.contrast:g}, {probe.diameter_mm:g})"]
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.contrast_map import Probe\n"
        "from napari_restore_rwkv.reliability.slice_maps import map_lost_contrast\n"
        f"{_BLEND}lost = finish(map_lost_contrast({', '.join(words + _made(options, comparison))}))"
    )


def sensitivity_as_python(options: RestoreOptions, comparison: Comparison, index: int) -> str:
    """Return lines that map how much a restored slice depends on its orientation."""
    words = _slice_again(options, index) + _made(options, comparison)
    return (
        f"{_BEGIN}from napari_restore_rwkv.reliability.slice_maps import map_sensitivity\n"
        f"{_BLEND}sensitivity = finish(map_sensitivity({', '.join(words)}))"
    )


def reported_as_python(comparison: Comparison, path: Path) -> str:
    """Return lines that write a report, the page and its figures."""
    files = [str(file) for file in dict.fromkeys((path, path.with_suffix(".json")))]
    return (
        f"{_BEGIN}from pathlib import Path\n"
        "from napari_restore_rwkv.reliability.report import report_on\n"
        "from napari_restore_rwkv.reliability.report_files import write_report\n"
        f"pair = {_pair(comparison)}\n"
        f"report = finish(report_on(*pair, {_slices(comparison)}))\n"
        f"for file in {files}:\n"
        f"    write_report(report, *pair, {comparison.input.name!r}, Path(file))\n"
    )


def _slice_again(options: RestoreOptions, index: int) -> list[str]:
    return [scan_in_python(options), repr(str(options.weights)), str(index)]


def _made(options: RestoreOptions, comparison: Comparison) -> list[str]:
    made = restoration_keywords(options, comparison.result, comparison.blend)
    return [f"{name}={value!r}" for name, value in made.items() if value is not None]


def _pair(comparison: Comparison) -> str:
    layers = (comparison.input, comparison.restored)
    return ", ".join(f"layer_to_scan({layer_in_python(layer.name)})" for layer in layers)


def _slices(comparison: Comparison) -> str:
    return f"indices={sorted(comparison.result.finished)}, axis={comparison.result.axis}"
