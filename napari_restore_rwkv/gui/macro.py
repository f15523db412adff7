"""What the panels did, as lines of Python and a command that repeat it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ..restoration.detail import Blend
from ..scans.scan import AXES
from ..tasks import TASKS
from .layers import choice_of, source_of

if TYPE_CHECKING:
    from .options import RestoreOptions

# The napari console knows the viewer by this name.
VIEWER = "viewer"
NOTHING = Blend()


def as_python(options: RestoreOptions, axis: int, index: int | None, strength: float, back: Blend = NOTHING) -> str:
    """Return lines of Python for napari's console, where `viewer` is the window, that repeat a restoration.

    Parameters
    ----------
    options
        The options of the form.
    axis, index
        The axis across the slices, 0 to 2 for z, y, x, and the slice that was restored; None for all.
    strength
        The fraction of the restoration that was mixed in, 0 to 1.
    back
        The detail that was put back after mixing; a restoration into a file never contains it.
    """
    layer = layer_in_python(options.layer.name)
    choices = [f"axis={AXES[axis]!r}", *([] if index is None else [f"indices=[{index}]"])]
    choices += [f"strength={strength:g}"] if strength != 1 else []
    choices += ["any_modality=True"] if options.any_modality else []
    weights = repr(str(options.weights))
    device = f"device={options.device!r}"
    if options.output is not None and options.scheduler is not None:
        return _on_a_cluster(options, scan_in_python(options), choices)
    if options.output is not None:
        scan = scan_in_python(options)
        return (
            "from napari_restore_rwkv import finish, restore_to_zarr\n"
            "from napari_restore_rwkv.device import choose_device\n"
            "from napari_restore_rwkv.gui.layers import layer_to_scan\n"
            "from napari_restore_rwkv.network.classical import load_restorer\n"
            f"finish(restore_to_zarr({scan}, load_restorer({weights}), {str(options.output)!r}, "
            f"{', '.join([*choices, f'device=choose_device({options.device!r})'])}))"
        )
    if back != NOTHING:
        return _with_detail_back(options, weights, ", ".join([*choices, device]), back, axis)
    if options.time_index is not None:
        return (
            "from napari_restore_rwkv import restore\n"
            "from napari_restore_rwkv.gui.layers import layer_to_scan\n"
            f"restored = restore({scan_in_python(options)}, {weights}, {', '.join([*choices, device])})"
        )
    return (
        "from napari_restore_rwkv import restore\n"
        f"{VIEWER}.add_layer(restore({layer}, {weights}, {', '.join([*choices, device])}))"
    )


def _with_detail_back(options: RestoreOptions, weights: str, choices: str, back: Blend, axis: int) -> str:
    # Whole numbers would be rounded before detail is put back, and once more after it.
    made, mixing = f"restore(scan, {weights}, {choices}, dtype='float32')", f"{back!r}, axis={axis}"
    begin = (
        "from napari_restore_rwkv import restore\n"
        "from napari_restore_rwkv.gui.restore.mixture import with_detail_back\n"
        "from napari_restore_rwkv.restoration.detail import Blend\n"
    )
    if options.time_index is not None:
        return (
            f"{begin}from napari_restore_rwkv.gui.layers import layer_to_scan\n"
            f"scan = {scan_in_python(options)}\n"
            f"restored = {made}\n"
            f"restored = restored.with_voxels(with_detail_back(scan.voxels, restored.voxels, {mixing}))"
        )
    return (
        f"{begin}scan = {layer_in_python(options.layer.name)}\n"
        f"restored = {made}\n"
        f"restored.data = with_detail_back(scan.data, restored.data, {mixing})\n"
        f"{VIEWER}.add_layer(restored)"
    )


def _on_a_cluster(options: RestoreOptions, scan: str, choices: list[str]) -> str:
    weights, file = str(options.weights), source_of(options.layer)
    reading = [f"modality={scan}.modality"]
    reading += [f"{name}={value!r}" for name, value in choice_of(options.layer, options.time_index).items()]
    words = [repr("" if file is None else str(file)), repr(weights), f"OpenOptions({', '.join(reading)})"]
    words += [f"device={options.device!r}"]
    return (
        "from napari_restore_rwkv import finish\n"
        "from napari_restore_rwkv.gui.layers import layer_to_scan\n"
        "from napari_restore_rwkv.jobs.cluster import Source\n"
        "from napari_restore_rwkv.jobs.staged_cluster_job import StagedClusterJob\n"
        "from napari_restore_rwkv.network.classical import load_restorer\n"
        "from napari_restore_rwkv.scans.options import OpenOptions\n"
        f"scan, source = {scan}, Source({', '.join(words)})\n"
        f"finish(StagedClusterJob({options.scheduler!r}, source, scan, load_restorer({weights!r}), "
        f"{str(options.output)!r}, {', '.join(choices)}).run())"
    )


def as_lines(
    options: RestoreOptions, axis: int, index: int | None, strength: float, back: Blend = NOTHING
) -> tuple[str, str]:
    """Return `as_python` and `as_command`; the command is "" for one slice or detail put back, which it cannot do."""
    there = index is None and (back == NOTHING or options.output is not None)
    return as_python(options, axis, index, strength, back), as_command(options, axis, strength) if there else ""


def layer_in_python(name: str) -> str:
    """Return the expression for a layer, by its name, in napari's console."""
    return f"{VIEWER}.layers[{name!r}]"


def as_command(options: RestoreOptions, axis: int, strength: float) -> str:
    """Return the command that restores the file of the layer; "" if the file is unknown."""
    source = source_of(options.layer)
    if source is None:
        return ""
    output = options.output or source.with_name("restored.nii.gz")
    words = ["restore-rwkv", "restore", str(source), str(output), *_weights(str(options.weights))]
    words += ["--axis", AXES[axis], "--device", options.device]
    words += ["--scheduler", options.scheduler] if options.scheduler else []
    words += ["--strength", f"{strength:g}"] if strength != 1 else []
    for name, value in choice_of(options.layer, options.time_index).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--any-modality"] if options.any_modality else []
    return shlex.join(words)


def scan_in_python(options: RestoreOptions) -> str:
    """Return the expression for the scan of the layer, or for one frame of it."""
    frame = "" if options.time_index is None else f", {options.time_index}"
    return f"layer_to_scan({layer_in_python(options.layer.name)}{frame})"


def _weights(weights: str) -> list[str]:
    if weights in TASKS:
        return ["--task", weights]
    kind, _, task = weights.partition(":")
    return ["--task", task, "--classical"] if kind == "classical" and task in TASKS else ["--checkpoint", weights]
