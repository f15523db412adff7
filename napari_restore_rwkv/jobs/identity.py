"""What a result depends on, so that a job can only be continued as the same job."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..network.restorer import device_of, kernel_of
from ..progress import Phase, Progress
from ..restoration.provenance import settings_of
from .digests import combined_digest, slice_digest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from torch import nn

    from ..restoration.intensity import IntensityRule
    from ..scans.scan import Scan
    from ..scans.zarr.writing import ZarrLayout

# Longer values, such as digests, are shortened in a message.
_SHOWN = 16


def input_identity(scan: Scan, axis: int) -> dict[str, Any]:
    """Describe the input.

    Voxels in memory are digested; for lazy ones the number and size of their files are recorded, if there are files.

    Returns
    -------
    dict
        Plain values.
    """
    voxels = scan.voxels
    about: dict[str, Any] = {
        "shape": list(scan.shape),
        "dtype": str(np.dtype(voxels.dtype)),
        "spacing_mm": [float(value) for value in scan.spacing_mm],
        "origin_mm": [float(value) for value in scan.origin_mm],
        "direction": np.asarray(scan.direction, float).tolist(),
        "modality": scan.modality,
        "unit": scan.unit,
    }
    if isinstance(voxels, np.ndarray):
        slices = (voxels.take(index, axis) for index in range(voxels.shape[axis]))
        return about | {"sha256": combined_digest(slice_digest(image) for image in slices)}
    files = fingerprint_of(scan)
    return about | ({"files": files["files"], "bytes": files["bytes"]} if files else {})


def fingerprint_of(scan: Scan) -> dict[str, Any] | None:
    """Return the state of the files that lazy voxels come from; None if unknown."""
    return scan.voxels.fingerprint() if hasattr(scan.voxels, "fingerprint") else None


def model_identity(network: nn.Module) -> dict[str, Any]:
    """Describe a network by a digest of its weights, their number, and the parts of its card that affect results."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "network": type(network).__name__,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sha256": digest.hexdigest(),
        **settings_of(network),
    }


def job_identity(
    scan: Scan,
    network: nn.Module,
    layout: ZarrLayout,
    intensity: IntensityRule,
    precision: str,
    tiling: Mapping[str, Any],
    noise: float | None,
    strength: float,
) -> dict[str, Any]:
    """Describe everything that the voxels of a result depend on, as plain values; `tiling` is a `tiling_record`."""
    return {
        "input": input_identity(scan, layout.axis),
        **computation_identity(network, precision),
        **tiling,
        "intensity": intensity.as_dict(),
        # Left out if they change nothing, as in older ledgers.
        **({} if noise is None else {"noise": noise}),
        **({} if strength == 1 else {"strength": strength}),
        "axis": layout.axis,
        "output": {"dtype": layout.dtype, "slices_per_unit": layout.slab, "levels": layout.levels},
    }


def computation_identity(network: nn.Module, precision: str) -> dict[str, Any]:
    """Describe what computes: the weights, the kernel on their device, and the versions."""
    device = device_of(network)
    return {
        "model": model_identity(network),
        "kernel": kernel_of(network, device),
        "device": device.type,
        "precision": precision,
        "software": f"napari-restore-rwkv {version('napari-restore-rwkv')}, torch {torch.__version__}",
    }


def differences(begun: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describe the differences between two identities, such as "precision: float32, now bfloat16"."""
    before, after = dict(_flat(begun)), dict(_flat(now))
    return [
        f"{name}: {_short(before.get(name, 'not known'))}, now {_short(after.get(name, 'not known'))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def changed_slabs(scan: Scan, layout: ZarrLayout, slices: dict[int, tuple[str, ...]]) -> Generator[Progress, None, int]:
    """Read the input of finished slabs again; the value is how many of them have changed voxels.

    Parameters
    ----------
    slices
        Sha256 of each slice of these slabs, as recorded.
    """
    changed = 0
    for count, (slab, digests) in enumerate(slices.items()):
        yield Progress(Phase.COMPARING_INPUT, count, len(slices))
        voxels = np.asarray(scan.voxels[layout.region(slab)])
        now = tuple(slice_digest(voxels.take(at, layout.axis)) for at in range(voxels.shape[layout.axis]))
        changed += now != digests
    return changed


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 3 * _SHOWN else f"{text[:_SHOWN]}..."
