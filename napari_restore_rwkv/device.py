"""Which device the network runs on."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from .errors import DeviceError

_MEMINFO = Path("/proc/meminfo")
_CONTAINERS = Path("/sys/fs/cgroup")
_OWN_CONTAINER = Path("/proc/self/cgroup")


def choose_device(name: str = "auto") -> torch.device:
    """Find the device with this name.

    Parameters
    ----------
    name
        "auto" takes an NVIDIA GPU if PyTorch sees one, else the CPU; or "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    DeviceError
        If there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f"PyTorch finds no device '{name}' on this machine; choose 'auto' or 'cpu', "
            "or install a PyTorch built for it."
        ) from error
    return device


def describe(device: torch.device) -> str:
    """Describe a device for the user, such as "GPU: NVIDIA H100" or "CPU, 8 threads"."""
    if device.type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    return device.type.upper()


def free_memory(device: torch.device) -> int | None:
    """Bytes that a job may still take; None for a device, or a system, that does not say.

    What PyTorch keeps for reuse on a GPU counts as free, since the next allocation in this process gets it.
    """
    if device.type == "cpu":
        sizes = [_free_in_machine(), *(_free_in_container(folder) for folder in _containers())]
        known = [size for size in sizes if size is not None]
        return min(known, default=None)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _free_in_machine() -> int | None:
    """Memory, and swap space, that the system could provide."""
    try:
        sizes = dict(line.split(":") for line in _MEMINFO.read_text("ascii").splitlines())
        return sum(int(sizes[name].split()[0]) << 10 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _containers() -> list[Path]:
    """Return the control groups (version 2) of this process, outermost first; each may have a limit."""
    try:
        names = next(line[3:] for line in _OWN_CONTAINER.read_text("utf-8").splitlines() if line.startswith("0::"))
    except (OSError, ValueError, StopIteration):
        return [_CONTAINERS]
    parts = [part for part in names.split("/") if part not in ("", "..")]
    return [_CONTAINERS.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]


def _free_in_container(folder: Path) -> int | None:
    """Memory left in a container with a limit."""
    try:
        most, used = ((folder / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
        state = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        # Cached pages of unused files are released if memory is short.
        return int(most) - int(used) + int(state["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None
