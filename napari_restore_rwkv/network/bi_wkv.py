"""The bidirectional WKV operator, on the best kernel for the device that holds its inputs.

    y_t = ( sum_{i != t} exp(k_i - (|t-i| - 1) w) v_i + exp(u + k_t) v_t ) / ( the same sum with v = 1 )

Eq. 8 of arXiv 2407.11087. This one definition has four implementations: `bi_wkv_reference` (the equation),
`bi_wkv_portable` (PyTorch operations, any device) and the compiled kernels for the CPU and for NVIDIA GPUs.
"""

import warnings
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from . import bi_wkv_cpu, bi_wkv_cuda, cuda_kernels
from .bi_wkv_portable import bi_wkv_portable, in_column_order

_PORTABLE = "portable PyTorch"


def bi_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend over tokens in memory order.

    Parameters
    ----------
    w, u
        Decay and bonus per channel, shape (C,), of either sign, already divided by the number of tokens T.
    k, v
        Keys and values, shape (B, T, C), floating point of one dtype; float16 and bfloat16 are accumulated in float32.

    Returns
    -------
    Tensor
        y, shape (B, T, C), in the dtype of v.

    Raises
    ------
    ValueError
        If shapes, dtypes or devices do not match.
    """
    _check(w, u, k, v, k.shape[1] if k.dim() == 3 else 0, 1)
    return torch.ops.restore_rwkv.bi_wkv(w, u, k, v, k.shape[1], 1, False)


def re_wkv(decay: Tensor, bonus: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    """Attend along the rows of a map, then along its columns (Eq. 9-10 of arXiv 2407.11087 with M = 2).

    Parameters
    ----------
    decay, bonus
        w and u of `bi_wkv`, one row for each of the two orders, shape (2, C), already divided by T = height * width.
    k, v
        Keys and values of the map in row-major order, shape (B, T, C). Both orders use the same keys; the values of the
        second are the outputs of the first. The second order is a stride in memory, not a transposed copy.

    Returns
    -------
    Tensor
        y, shape (B, T, C), in row-major order and in the dtype of v.
    """
    for name, parameter in (("decay", decay), ("bonus", bonus)):
        if parameter.dim() != 2 or parameter.shape[0] != 2:
            raise ValueError(
                f"{name} must have shape (2, C), one row for each scan order; got {tuple(parameter.shape)}."
            )
    _check(decay[0], bonus[0], k, v, height, width)
    v = torch.ops.restore_rwkv.bi_wkv(decay[0], bonus[0], k, v, height, width, False)
    return torch.ops.restore_rwkv.bi_wkv(decay[1], bonus[1], k, v, height, width, True)


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """Which implementation runs on a device; `why` says how to get a faster one, and is empty if there is none."""

    name: str
    why: str = ""

    @property
    def compiled(self) -> bool:
        """Whether a compiled kernel runs, rather than the portable form."""
        return self.name != _PORTABLE


def kernel_in_use(device: torch.device | str) -> KernelStatus:
    """Return which implementation of the operator serves tensors on `device`."""
    device = torch.device(device)
    if device.type == "cuda":
        why = cuda_kernels.unavailable(device)
        name = _PORTABLE if why else f"compiled CUDA kernel ({cuda_kernels.architecture(device)})"
        return KernelStatus(name, why)
    if device.type != "cpu":
        return KernelStatus(_PORTABLE, f"This version has no compiled WKV kernel for {device.type} devices.")
    if bi_wkv_cpu.library() is None:
        return KernelStatus(
            _PORTABLE,
            "The package was built without its CPU kernel: install a C++17 compiler and reinstall the package.",
        )
    return KernelStatus(f"compiled CPU kernel ({bi_wkv_cpu.instruction_set()})")


def _check(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> None:
    if k.dim() != 3 or k.shape != v.shape:
        raise ValueError(f"k and v must share one shape (B, T, C); got {tuple(k.shape)} and {tuple(v.shape)}.")
    if k.numel() == 0:
        raise ValueError(f"k and v must not be empty; got shape {tuple(k.shape)}.")
    if height * width != k.shape[1]:
        raise ValueError(f"height * width must be the number of tokens {k.shape[1]}; got {height} * {width}.")
    for name, parameter in (("w", w), ("u", u)):
        if parameter.shape != k.shape[2:]:
            raise ValueError(
                f"{name} must have one value for each of {k.shape[2]} channels; got {tuple(parameter.shape)}."
            )
    if not (k.is_floating_point() and k.dtype == v.dtype):
        raise ValueError(f"k and v must share one floating-point dtype; got {k.dtype} and {v.dtype}.")
    if len({x.device for x in (w, u, k, v)}) > 1:
        raise ValueError("w, u, k and v must be on one device.")


# Plain library operators: `torch.library.custom_op` would import the compiler stack, a second, at the first call.
torch.library.define(
    "restore_rwkv::bi_wkv",
    "(Tensor w, Tensor u, Tensor k, Tensor v, SymInt height, SymInt width, bool column_major) -> Tensor",
)
torch.library.define(
    "restore_rwkv::bi_wkv_backward",
    "(Tensor w, Tensor u, Tensor k, Tensor v, Tensor gy, SymInt height, SymInt width, bool column_major)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("restore_rwkv::bi_wkv", "default")
def _forward(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool) -> Tensor:
    kernels = _gpu_kernels(k)
    w_, u_, k_, v_ = _for_gpu(w, u, k, v) if kernels else _accumulated(w, u, k, v)
    if kernels:
        y = bi_wkv_cuda.forward(kernels, w_, u_, k_, v_, height, width, column_major)
    elif _has_cpu_kernel(k):
        y = bi_wkv_cpu.forward(w_, u_, k_, v_, height, width, column_major)
    else:
        y = _portable(w_, u_, k_, v_, height, width, column_major).contiguous()
    return y.to(v.dtype)


@torch.library.impl("restore_rwkv::bi_wkv_backward", "default")
def _backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, gy: Tensor, height: int, width: int, column_major: bool
) -> tuple[Tensor, ...]:
    kernels = _gpu_kernels(k)
    w_, u_, k_, v_, gy_ = _for_gpu(w, u, k, v, gy) if kernels else _accumulated(w, u, k, v, gy)
    gradients: tuple[Tensor, ...]
    if kernels:
        gradients = bi_wkv_cuda.backward(kernels, w_, u_, k_, v_, gy_, height, width, column_major)
    elif _has_cpu_kernel(k):
        gradients = bi_wkv_cpu.backward(w_, u_, k_, v_, gy_, height, width, column_major)
    else:
        for leaf in (w_, u_, k_, v_):
            leaf.requires_grad_()
        with torch.enable_grad():
            y = _portable(w_, u_, k_, v_, height, width, column_major)
        gradients = torch.autograd.grad(y, (w_, u_, k_, v_), gy_)
    return tuple(gradient.to(x.dtype) for gradient, x in zip(gradients, (w, u, k, v), strict=True))


def _has_cpu_kernel(k: Tensor) -> bool:
    return k.device.type == "cpu" and bi_wkv_cpu.library() is not None


def _gpu_kernels(k: Tensor) -> bi_wkv_cuda.Kernels | None:
    if k.device.type != "cuda" or k.dtype not in bi_wkv_cuda.SUFFIX:
        return None
    if why := cuda_kernels.unavailable(k.device, k.dtype):
        _warn_once(why)
        return None
    return cuda_kernels.kernels_for(k.device, k.dtype)


@cache
def _warn_once(why: str) -> None:
    warnings.warn(f"The WKV operator is running in its portable form, which is many times slower. {why}", stacklevel=2)


def _for_gpu(w: Tensor, u: Tensor, k: Tensor, *others: Tensor) -> list[Tensor]:
    """Parameters in float32, maps in the dtype of k; contiguous, detached from any graph."""
    parameters = [x.detach().float().contiguous() for x in (w, u)]
    return parameters + [x.detach().to(k.dtype).contiguous() for x in (k, *others)]


def _accumulated(*inputs: Tensor) -> list[Tensor]:
    """All inputs in the dtype of the sums, contiguous, detached from any graph."""
    dtype = torch.float64 if inputs[2].dtype == torch.float64 else torch.float32
    return [x.detach().to(dtype).contiguous() for x in inputs]


def _portable(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool) -> Tensor:
    if column_major:
        return in_column_order(bi_wkv_portable, w, u, k, v, height, width)
    return bi_wkv_portable(w, u, k, v)


def _fake_forward(w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int, column_major: bool) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


def _fake_backward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, gy: Tensor, height: int, width: int, column_major: bool
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (w, u, k, v))


def _keep_inputs(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.height, ctx.width, ctx.column_major = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, gy: Tensor):  # type: ignore[no-untyped-def]
    gradients = torch.ops.restore_rwkv.bi_wkv_backward(*ctx.saved_tensors, gy, ctx.height, ctx.width, ctx.column_major)
    return *gradients, None, None, None


torch.library.register_fake("restore_rwkv::bi_wkv", _fake_forward)
torch.library.register_fake("restore_rwkv::bi_wkv_backward", _fake_backward)
torch.library.register_autograd("restore_rwkv::bi_wkv", _differentiate, setup_context=_keep_inputs)
