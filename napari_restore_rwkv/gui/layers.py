"""Conversion between napari layers and scans.

Layers of this plugin are index-aligned in the world: scale and translation in mm, axes z, y, x. Direction cosines and
everything else in the file are kept in ``layer.metadata[RECORD]``; later changes to the layer apply to them as well.
For a layer from another reader, world coordinates are taken as the patient's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from ..errors import ScanError
from ..scans.lazy import LazyVoxels
from ..scans.scan import AXES, Scan
from .layer_geometry import geometry_of, remembered, transforms_of, world_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Layer

    from ..scans.frames import Frames

RECORD = "restore_rwkv"
SAME = 1e-6
ABDOMEN_WINDOW_HU = (-160.0, 240.0)
PET_WINDOW_SUV = (0.0, 10.0)


def layer_to_scan(layer: Layer, time_index: int | None = None) -> Scan:
    """Return the scan that an image layer shows.

    Parameters
    ----------
    layer
        A greyscale image layer with axes (z, y, x), (y, x), or (t, z, y, x).
    time_index
        The frame of a four-dimensional layer.

    Returns
    -------
    Scan
        Voxels of shape (Z, Y, X), still lazy if the layer's are; a two-dimensional layer becomes one slice. Spacing in
        mm, from the layer's scale and units; a layer in pixels counts one pixel as 1 mm.

    Raises
    ------
    ScanError
        If the layer is not a greyscale scan of two to four dimensions, or if a frame must be chosen first.
    """
    if not isinstance(layer, Image):
        kind = layer.__class__.__name__.lower()
        raise ScanError(f'"{layer.name}" is a {kind} layer; only an image layer can be restored: choose the scan.')
    attributes = {"name": layer.name, "rgb": layer.rgb, "metadata": layer.metadata, **transforms_of(layer)}
    return image_to_scan(layer.data[0] if layer.multiscale else layer.data, attributes, time_index)


def image_to_scan(data: Any, attributes: Mapping[str, Any], time_index: int | None = None) -> Scan:
    """Return the scan in an image layer's data and attributes (napari's layer data tuple); see `layer_to_scan`."""
    name = attributes.get("name", "image")
    _refuse_unless_scan(data, name, bool(attributes.get("rgb")))
    record = attributes.get("metadata", {}).get(RECORD, {})
    placed = geometry_of(world_matrix(data.shape, attributes, name), record if "world" in record else {}, name)
    spacing, origin = (tuple(map(float, placed[key])) for key in ("spacing_mm", "origin_mm"))
    return Scan(
        voxels=_three_dimensional(data, name, time_index),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        origin_mm=(origin[0], origin[1], origin[2]),
        direction=np.asarray(placed["direction"], dtype=float),
        modality=record.get("modality"),
        unit=record.get("unit", ""),
        acquired_along=record.get("acquired_along"),
        metadata=MappingProxyType(dict(record.get("metadata", {}))),
    )


def with_geometry_of(scan: Scan, layer: Layer) -> Scan:
    """Return a scan with the spacing, origin and direction of an image layer; errors as in `layer_to_scan`."""
    there = layer_to_scan(layer, 0)
    return replace(scan, spacing_mm=there.spacing_mm, origin_mm=there.origin_mm, direction=there.direction)


def is_at_its_place(scan: Scan, layer: Layer) -> bool:
    """Whether an image layer still has the position of the scan that was made from it."""
    try:
        there = with_geometry_of(scan, layer)
    except ScanError:
        return False
    places = ((scan.spacing_mm, there.spacing_mm), (scan.origin_mm, there.origin_mm), (scan.direction, there.direction))
    return all(np.allclose(one, other, rtol=SAME, atol=SAME) for one, other in places)


def scan_to_layer(scan: Scan, name: str) -> tuple[Any, dict[str, Any], str]:
    """Return the napari layer data tuple that shows a scan: mm, axes z y x, grey, with the modality's usual window."""
    scale, translate = tuple(scan.spacing_mm), tuple(scan.origin_mm[::-1])
    placed = {"scale": scale, "translate": translate, "units": ("mm",) * 3}
    attributes = {
        "name": name,
        **placed,
        "axis_labels": AXES,
        "colormap": "gray",
        "contrast_limits": window_of(scan),
        "metadata": {RECORD: remembered(scan, scan.shape, placed)},
    }
    return scan.voxels, attributes, "image"


def frames_to_layer(frames: Frames, name: str) -> tuple[Any, dict[str, Any], str]:
    """Return the layer data tuple that shows all frames of a scan, with axes t, z, y, x; see `scan_to_layer`."""
    # It imports the readers.
    from ..scans.frames import stacked

    first = frames.scans[0]
    data = stacked(frames)
    _, attributes, kind = scan_to_layer(first, name)
    placed = {
        "scale": (1.0, *attributes["scale"]),
        "translate": (0.0, *attributes["translate"]),
        "units": ("pixel", *attributes["units"]),
    }
    record = {**remembered(first, data.shape, placed), "frames": list(frames.names)}
    more = {"axis_labels": ("t", *AXES), "metadata": {RECORD: record}}
    return data, {**attributes, **placed, **more}, kind


def frame_name(layer: Layer, index: int) -> str:
    """Return the name of a frame of a layer with four axes."""
    names = layer.metadata.get(RECORD, {}).get("frames", ())
    named = names[index] if index < len(names) else ""
    return named or f"frame {index}"


def source_of(layer: Layer) -> Path | None:
    """Return the file or folder that a layer was read from; None if unknown."""
    named = layer.metadata.get(RECORD, {}).get("path") or layer.source.path
    path = Path(named) if named else getattr(layer.data, "source", None)
    return path.absolute() if path is not None and path.exists() else None


def choice_of(layer: Layer, frame: int | None) -> dict[str, Any]:
    """Return which part of its file a layer, or its frame, shows: keywords of `opening`, such as one of two series."""
    choices = layer.metadata.get(RECORD, {}).get("choices", ())
    if (frame or 0) < len(choices):
        return dict(choices[frame or 0])
    return {} if frame is None else {"time_index": frame}


def window_of(scan: Scan) -> tuple[float, float]:
    """Return the usual display limits for the modality, in units of the scan; robust limits if there are none."""
    if scan.modality == "CT":
        return ABDOMEN_WINDOW_HU
    if scan.modality == "PET" and scan.unit == "SUV":
        return PET_WINDOW_SUV
    return _robust_limits(scan.voxels)


def describe(scan: Scan) -> str:
    """Return one line such as ``"20 x 512 x 512 · 2.0 x 0.98 x 0.98 mm · HU"``."""
    parts = [" x ".join(str(size) for size in scan.shape), f"{' x '.join(_length(s) for s in scan.spacing_mm)} mm"]
    return " · ".join([*parts, scan.unit] if scan.unit else parts)


def restored_layer(layer: Layer, voxels: Any) -> Image:
    """Return a layer of restored voxels with the position and appearance of another."""
    _, attributes, _ = layer.as_layer_data_tuple()
    kept = ("colormap", "contrast_limits", "gamma", "interpolation2d", "axis_labels")
    looks = {name: attributes[name] for name in kept if name in attributes}
    voxels = voxels[0] if layer.ndim == 2 else voxels
    return Image(voxels, name=restored_name(layer.name), metadata=dict(layer.metadata), **transforms_of(layer), **looks)


def restored_name(name: str) -> str:
    """Return the name of the restored layer."""
    return f"{name} [restored]"


def difference_name(name: str) -> str:
    """Return the name of the layer with the signed difference."""
    return f"{name} [restored - input]"


def _refuse_unless_scan(data: Any, name: str, rgb: bool) -> None:
    if rgb:
        raise ScanError(f'"{name}" is a colour image (RGB); a scan has one grey value per voxel: convert it to grey.')
    kind = np.dtype(data.dtype).kind
    if kind == "c":
        raise ScanError(f'"{name}" contains complex numbers; restoration needs real ones: take the magnitude first.')
    if kind == "b":
        raise ScanError(f'"{name}" is a boolean mask, not a scan: choose the image it was drawn on.')
    shape = " x ".join(str(size) for size in data.shape)
    if 0 in data.shape:
        raise ScanError(f'"{name}" is empty (shape {shape}): there is nothing to restore.')
    if not 2 <= len(data.shape) <= 4:
        raise ScanError(
            f'"{name}" has {len(data.shape)} dimension{"s" if len(data.shape) > 1 else ""} (shape {shape}); '
            "a scan has two (a slice), three, or four with time."
        )


def _three_dimensional(data: Any, name: str, time_index: int | None) -> Any:
    if len(data.shape) == 2:
        return data[None]
    if len(data.shape) == 3:
        return data
    if time_index is None:
        raise ScanError(f'"{name}" has four dimensions: choose which of its {data.shape[0]} frames to restore.')
    if not 0 <= time_index < data.shape[0]:
        raise ScanError(f'"{name}" has frames 0 to {data.shape[0] - 1}, not {time_index}.')
    if isinstance(data, np.ndarray):
        return data[time_index]
    # Only the requested part is read.
    return LazyVoxels(data.shape[1:], data.dtype, lambda box: np.asarray(data[(time_index, *box)]))


def _robust_limits(voxels: Any, per_axis: int = 64) -> tuple[float, float]:
    """Return the 0.5th and 99.8th percentile of a coarse sample of the middle slices, reading nothing else."""
    middle = voxels.shape[0] // 2
    steps = tuple(max(1, size // per_axis) for size in voxels.shape[1:])
    sample = np.asarray(voxels[middle : middle + 1, :: steps[0], :: steps[1]], dtype=np.float32)
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, [0.5, 99.8]) if sample.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def _length(millimetres: float) -> str:
    """Return a length with at least two significant digits, unless more would be 0: 2.0, 0.98, 12.5, 0.001."""
    if millimetres < 0.1:
        return f"{millimetres:.2g}"
    decimals = 1 if millimetres >= 1 and math.isclose(millimetres, round(millimetres, 1), abs_tol=0.005) else 2
    return f"{millimetres:.{decimals}f}"
