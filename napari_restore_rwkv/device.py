"""Which device the network runs on."""

from __future__ import annotations

import torch

from .errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """Find the device with this name.

    Parameters
    ----------
    name
        "auto" takes an NVIDIA GPU where PyTorch sees one, else the CPU; or "cpu", "cuda", "cuda:1", "mps".

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
    """Name a device for a person, such as "GPU: NVIDIA H100" or "CPU, 8 threads"."""
    if device.type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    return device.type.upper()


def free_memory(device: torch.device) -> int | None:
    """Bytes that a job may still take on a GPU; None for a device that does not tell.

    What PyTorch keeps for reuse counts as free, for it is given to whoever asks next in this process.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
