"""``restore-rwkv doctor``: what works here, what does not, and how to fix it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RestoreError
from ..tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# Largest difference from the equation allowed for a float32 kernel, relative to the largest value.
TOLERANCE = 1e-5

# Distribution -> the module that must import for restoring to work.
NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "SimpleITK": "SimpleITK",
    "pydicom": "pydicom",
    "pylibjpeg-openjpeg": "openjpeg",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
}
VIEWER = ("napari", "qtpy")
QT_BINDINGS = ("PyQt6", "PySide6", "PyQt5")
# Letters of the longest name of a finding.
WIDEST = max(len(f"weights {task}") for task in TASKS)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    name
        What was checked.
    state
        "ok"; "note" for something that is not needed for restoring; "failed" for something that is.
    text
        What was found.
    remedy
        What to do about it; empty if there is nothing to do.
    """

    name: str
    state: Literal["ok", "note", "failed"]
    text: str
    remedy: str = ""


def examine(device: str = "auto") -> list[Finding]:
    """Check the installation, the device, the kernel and the shipped weights."""
    findings = [_system(), *_libraries(), *_viewer()]
    if any(finding.name == "torch" and finding.state == "failed" for finding in findings):
        return findings
    return [*findings, *_computing(device), *_weights()]


def report(findings: list[Finding]) -> tuple[dict[str, Any], str, int]:
    """Return the findings as plain values, as text, and the exit code: 1 if something needed failed."""
    works = all(finding.state != "failed" for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<7} {finding.name:<{WIDEST}} {finding.text}")
        if finding.remedy:
            lines.append(f"{'':<{WIDEST + 8}} -> {finding.remedy}")
    lines.append(
        "Everything needed works." if works else "Something that is needed does not work: see the lines marked failed."
    )
    return {"works": works, "findings": [asdict(finding) for finding in findings]}, "\n".join(lines), 0 if works else 1


def kernel_error(device: torch.device) -> float:
    """Largest difference of the kernel in use from the equation on a small random problem, over the largest value.

    Two images, 257 tokens, 19 channels, decays of either sign; the equation is computed in float64 on the CPU.
    """
    import torch

    from ..network.bi_wkv import bi_wkv
    from ..network.bi_wkv_reference import bi_wkv_reference

    batch, tokens, channels = 2, 257, 19
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(channels, generator=generator) * 4 / tokens
    u = torch.randn(channels, generator=generator) / tokens
    k = torch.randn(batch, tokens, channels, generator=generator)
    v = torch.randn(batch, tokens, channels, generator=generator)
    with torch.no_grad():
        truth = bi_wkv_reference(*(tensor.double() for tensor in (w, u, k, v)))
        result = bi_wkv(*(tensor.to(device) for tensor in (w, u, k, v))).double().cpu()
    return float((result - truth).abs().max() / truth.abs().max())


def _system() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores} processor cores"
    return Finding("system", "ok", text)


def _libraries() -> Iterator[Finding]:
    version = _version("napari-restore-rwkv")
    if version is None:
        yield Finding("napari-restore-rwkv", "failed", "not installed", "pip install napari-restore-rwkv")
    else:
        yield Finding("napari-restore-rwkv", "ok", version)
    for distribution, module in NEEDED.items():
        try:
            import_module(module)
        # A library that is installed but broken can raise anything.
        except Exception as error:
            yield Finding(
                distribution, "failed", f"cannot be loaded: {error}", f"pip install --force-reinstall {distribution}"
            )
        else:
            yield Finding(distribution, "ok", _version(distribution) or "version unknown")


def _viewer() -> Iterator[Finding]:
    """Check the viewer's libraries by version only: the command line works without them."""
    for distribution in VIEWER:
        version = _version(distribution)
        if version is None:
            yield Finding(distribution, "note", "not installed: no viewer", f"pip install {distribution}")
        else:
            yield Finding(distribution, "ok", version)
    bindings = [f"{name} {_version(name)}" for name in QT_BINDINGS if _version(name)]
    if not bindings:
        yield Finding("Qt", "note", "not installed: no viewer", 'pip install "napari[pyqt6]"')
    elif len(bindings) > 1:
        yield Finding(
            "Qt", "note", f"{' and '.join(bindings)} side by side", "keep one of them: pip uninstall the other"
        )
    else:
        yield Finding("Qt", "ok", bindings[0])


def _computing(name: str) -> Iterator[Finding]:
    """Check the device, the kernel on it, and whether that kernel computes the equation."""
    from ..device import choose_device, describe
    from ..network.bi_wkv import kernel_in_use

    try:
        device = choose_device(name)
    except RestoreError as error:
        yield Finding("device", "failed", str(error), "run with --device cpu")
        return
    yield Finding("device", "ok", describe(device))
    kernel = kernel_in_use(device)
    yield Finding("kernel", "note" if kernel.why else "ok", kernel.name, kernel.why)
    try:
        difference = kernel_error(device)
    # Whatever makes a kernel fail here would also make it fail in a restoration.
    except Exception as reason:
        yield Finding("kernel and equation", "failed", f"the kernel failed: {reason}", "reinstall this package")
        return
    agrees = difference <= TOLERANCE
    text = f"largest relative difference {difference:.1e} (at most {TOLERANCE:.0e})"
    remedy = "" if agrees else "reinstall this package; the results of this kernel cannot be trusted"
    yield Finding("kernel and equation", "ok" if agrees else "failed", text, remedy)


def _weights() -> Iterator[Finding]:
    from ..network.checkpoint import load_checkpoint, shipped_checkpoints

    shipped = shipped_checkpoints()
    for task in TASKS:
        if task not in shipped:
            yield Finding(f"weights {task}", "note", "no weights yet", "give your own with --checkpoint")
            continue
        try:
            network: Any = load_checkpoint(task)
        except RestoreError as error:
            yield Finding(f"weights {task}", "failed", str(error), "reinstall this package")
        else:
            yield Finding(f"weights {task}", "ok", f"{network.card.title}, {network.card.created}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
