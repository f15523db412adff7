"""The compiled kernels on the installed GPUs: whether they can run there, and launching them on torch's current stream.

Compilation goes through cuda-core. Loading and launching call the driver through cuda-bindings, which torch itself
loads: so a start from the cache does not wait for cuda-core's import, and a launch does not pass through another layer.
"""

from __future__ import annotations

import ctypes
import re
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import DeviceError
from .bi_wkv_cuda import SUFFIX, Kernels
from .cuda_compiler import cached_cubin, nvrtc_version

if TYPE_CHECKING:
    from collections.abc import Iterable

# Turing; NVRTC 13 does not compile for older ones.
OLDEST = (7, 5)

_lock = threading.RLock()
_loaded: dict[int, LoadedKernels] = {}
_answers: dict[tuple[int, torch.dtype], str] = {}


def unavailable(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Say why the compiled kernels cannot run on a CUDA device, and what to do; empty if they can.

    The first call for a device and dtype compiles and loads the kernels; the answer is cached.
    """
    index = _index(device)
    answer = _answers.get((index, dtype))
    if answer is None:
        # Otherwise two threads that start at once would both compile.
        with _lock:
            answer = _answers.get((index, dtype))
            if answer is None:
                answer = _answers[index, dtype] = _load(index, dtype)
    return answer


def kernels_for(device: torch.device, dtype: torch.dtype = torch.float32) -> Kernels:
    """Return the kernels of a CUDA device, ready to run on inputs of one dtype.

    Raises
    ------
    DeviceError
        If they cannot run there; the text is that of `unavailable`.
    """
    if why := unavailable(device, dtype):
        raise DeviceError(why)
    return _loaded[_index(device)]


def prepare(device: torch.device, dtypes: Iterable[torch.dtype] = tuple(SUFFIX)) -> None:
    """Compile and load all kernels now, since neither is allowed while a CUDA graph is being captured.

    Raises
    ------
    DeviceError
        As `kernels_for`.
    """
    for dtype in dtypes:
        kernels_for(device, dtype)


def architecture(device: torch.device) -> str:
    """Name of the architecture of a CUDA device, such as "sm_86"."""
    major, minor = torch.cuda.get_device_capability(_index(device))
    return f"sm_{major}{minor}"


class LoadedKernels:
    """Kernels in the memory of one GPU, never unloaded."""

    def __init__(self, index: int) -> None:
        from cuda.bindings import driver

        self._driver, self._index = driver, index
        self._functions: dict[str, tuple[Any, int | None]] = {}
        # The driver of one CUDA release cannot load what the compiler of a later one produced.
        release, known = nvrtc_version()[0], self._asked(driver.cuDriverGetVersion()) // 1000
        if release > known:
            raise DeviceError(
                f"The installed NVRTC is from CUDA {release}, but the driver supports CUDA {known} at most: update the "
                f"driver, or {_install_command()}"
            )
        self._context = self._asked(driver.cuDevicePrimaryCtxRetain(self._asked(driver.cuDeviceGet(index))))

    def load(self, cubin: bytes) -> None:
        """Load every kernel of a cubin now: the driver would defer it to the first launch, perhaps inside a graph."""
        with torch.cuda.device(self._index):
            self._enter_context()
            module = self._asked(self._driver.cuModuleLoadData(cubin))
            # Each kernel has its own section.
            for name in set(re.findall(rb"\.text\.(\w+)\0", cubin)):
                function = self._asked(self._driver.cuModuleGetFunction(module, name))
                self._functions[name.decode()] = function, self._parameters(function)

    def launch(self, name: str, grid: int, block: tuple[int, int], *arguments: Tensor | int) -> None:
        """Queue a kernel on torch's current stream of this GPU, and return at once.

        Parameters
        ----------
        name
            Of a loaded kernel.
        grid, block
            Blocks along x; threads of a block along x and y.
        arguments
            Tensors on this GPU, passed as pointers, and integers, passed as 64-bit words.

        Raises
        ------
        DeviceError
            If the driver reports an error.
        """
        function, parameters = self._functions[name]
        # The driver does not check the count: it would read past the last word.
        if parameters not in (None, len(arguments)):
            raise TypeError(f"{name} takes {parameters} arguments; got {len(arguments)}.")
        words = tuple(x.data_ptr() if isinstance(x, Tensor) else x for x in arguments)
        with torch.cuda.device(self._index):
            self._enter_context()
            stream = torch.cuda.current_stream(self._index).cuda_stream
            types = (ctypes.c_int64,) * len(words)
            self._asked(self._driver.cuLaunchKernel(function, grid, 1, 1, *block, 1, 0, stream, (words, types), 0))

    def _enter_context(self) -> None:
        # A thread in which torch has not used the GPU yet has no context, and the driver does not choose one.
        if not int(self._asked(self._driver.cuCtxGetCurrent())):
            self._asked(self._driver.cuCtxSetCurrent(self._context))

    def _parameters(self, function: Any) -> int | None:
        """How many words a kernel takes; None if the driver is too old to say."""
        count = 0
        try:
            while not self._driver.cuFuncGetParamInfo(function, count)[0]:
                count += 1
        except RuntimeError:
            return None
        return count

    def _asked(self, answer: tuple[Any, ...]) -> Any:
        error, *values = answer
        if error:
            raise DeviceError(f"The driver of GPU {self._index} reported {error.name} for the WKV kernel.")
        return values[0] if values else None


def _index(device: torch.device) -> int:
    index: int | None = device.index
    if index is None:
        return torch.cuda.current_device() if torch.cuda.is_available() else 0
    return index


def _load(index: int, dtype: torch.dtype) -> str:
    """Compile and load what is missing; return why that failed."""
    # No CUDA package may be imported before torch has found a GPU: without a driver the import can hang.
    if why := _unfit(index):
        return why
    try:
        cubin = cached_cubin(architecture(torch.device("cuda", index)), SUFFIX[dtype])
        if index not in _loaded:
            _loaded[index] = LoadedKernels(index)
        _loaded[index].load(cubin)
    except ImportError as error:
        return f"The compiled WKV kernel needs cuda-core and cuda-bindings ({error}): {_install_command()}"
    except DeviceError as error:
        return str(error)
    # Whatever fails here, the portable form still runs.
    except Exception as error:
        return f"The compiled WKV kernel cannot be loaded ({type(error).__name__}: {error}): {_install_command()}"
    return ""


def _unfit(index: int) -> str:
    """Why this PyTorch or this GPU cannot run the kernels, as far as torch alone can tell."""
    if torch.version.hip:
        return "The compiled WKV kernel is for NVIDIA GPUs; other GPUs run the portable form."
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA: install a build with CUDA, see pytorch.org."
    if not torch.cuda.is_available():
        return "PyTorch finds no working NVIDIA GPU: check what nvidia-smi says, and update the driver."
    if torch.cuda.get_device_capability(index) < OLDEST:
        return (
            f"{torch.cuda.get_device_name(index)} is too old for the compiled WKV kernel, "
            f"which needs compute capability {OLDEST[0]}.{OLDEST[1]} or newer; it runs the portable form."
        )
    return ""


def _install_command() -> str:
    release = (torch.version.cuda or "").split(".")[0]
    return f'pip install "napari-restore-rwkv[cuda{release}]"'
