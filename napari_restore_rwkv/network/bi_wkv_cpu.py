"""The compiled CPU kernel: finds the library built with the package, and calls it."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

import napari_restore_rwkv

# One name on every platform; "lib" keeps Python from mistaking it for an extension module.
_LIBRARY = "libbi_wkv_cpu.so"
_C_TYPE = {torch.float32: "float", torch.float64: "double"}


@cache
def library() -> ctypes.CDLL | None:
    """Load the compiled kernel; None if the package was built without it."""
    # An editable install keeps the library apart from the sources; the package's path names both places.
    for folder in napari_restore_rwkv.__path__:
        path = Path(folder) / "network" / _LIBRARY
        if path.is_file():
            loaded = ctypes.CDLL(str(path))
            loaded.bi_wkv_instruction_set.restype = ctypes.c_char_p
            return loaded
    return None


def instruction_set() -> str:
    """Name of the instruction set that the loaded kernel uses."""
    loaded = library()
    return loaded.bi_wkv_instruction_set().decode() if loaded else ""


def forward(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool) -> Tensor:
    """Run the kernel on contiguous float32 or float64 tensors of one dtype, tokens in row-major order."""
    y = torch.empty_like(v)
    call("forward", k, height, width, column_major, (w, u, k, v, y))
    return y


def backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, gy: Tensor, height: int, width: int, column_major: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of w, u, k, v for the gradient gy of y."""
    gradients = (torch.empty_like(w), torch.empty_like(u), torch.empty_like(k), torch.empty_like(v))
    call("backward", k, height, width, column_major, (w, u, k, v, gy, *gradients))
    return gradients


def call(name: str, k: Tensor, height: int, width: int, column_major: bool, arrays: tuple[Tensor, ...]) -> None:
    """Run "forward" or "backward" on arrays in the order of its C declaration, outputs last; nothing is allocated."""
    sizes = [ctypes.c_int64(n) for n in (k.shape[0], height, width, k.shape[2])]
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    run = getattr(library(), f"bi_wkv_{name}_{_C_TYPE[k.dtype]}")
    # ctypes releases the interpreter lock, so the viewer stays responsive.
    if run(*sizes, ctypes.c_int(column_major), *pointers, ctypes.c_int(torch.get_num_threads())):
        raise MemoryError(
            f"The WKV kernel could not allocate its workspace for {k.numel()} elements; use smaller slices."
        )
