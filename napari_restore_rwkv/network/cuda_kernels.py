"""The compiled kernels on the GPUs at hand: whether they can run there, and launching them on torch's current stream.

Compiling goes through cuda-core. Loading and launching call the driver through cuda-bindings, which torch itself loads:
so a start from the cache does not wait for cuda-core's import, nor each launch for another layer.
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

# Turing; older ones are not among what NVRTC 13 compiles for.
OLDEST = (7, 5)

_lock = threading.RLock()
_loaded: dict[int, LoadedKernels] = {}
_answers: dict[tuple[int, torch.dtype], str] = {}


def unavailable(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Tell why the compiled kernels cannot run on a CUDA device, and what to do; empty where they can.

    The first call for a device and dtype compiles and loads the kernels; the answer is kept.
    """
    index = _index(device)
    answer = _answers.get((index, dtype))
    if answer is None:
        # Two threads that start at once would otherwise both compile.
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
        If they cannot run there; its text is that of `unavailable`.
    """
    if why := unavailable(device, dtype):
        raise DeviceError(why)
    return _loaded[_index(device)]


def prepare(device: torch.device, dtypes: Iterable[torch.dtype] = tuple(SUFFIX)) -> None:
    """Compile and load all kernels now, as a CUDA graph that is being captured allows neither.

    Raises
    ------
    DeviceError
        As `kernels_for`.
    """
    for dtype in dtypes:
        kernels_for(device, dtype)


def architecture(device: torch.device) -> str:
    """Name of the architecture that a CUDA device has machine code for, "sm_86" say."""
    major, minor = torch.cuda.get_device_capability(_index(device))
    return f"sm_{major}{minor}"


class LoadedKernels:
    """Kernels in the memory of one GPU, for good."""

    def __init__(self, index: int) -> None:
        from cuda.bindings import driver

        self._driver, self._index = driver, index
        self._functions: dict[str, tuple[Any, int | None]] = {}
        # What the compiler of one release of CUDA makes, the driver of an earlier one cannot load.
        release, known = nvrtc_version()[0], self._asked(driver.cuDriverGetVersion()) // 1000
        if release > known:
            raise DeviceError(
                f"The installed NVRTC is of CUDA {release}, and the driver knows CUDA {known} at most: update the "
                f"driver, or {_install_command()}"
            )
        self._context = self._asked(driver.cuDevicePrimaryCtxRetain(self._asked(driver.cuDeviceGet(index))))

    def load(self, cubin: bytes) -> None:
        """Load every kernel of a cubin now: the driver would put it off to a first launch, perhaps inside a graph."""
        with torch.cuda.device(self._index):
            self._enter_context()
            module = self._asked(self._driver.cuModuleLoadData(cubin))
            # Each kernel has a section of its own.
            for name in set(re.findall(rb"\.text\.(\w+)\0", cubin)):
                function = self._asked(self._driver.cuModuleGetFunction(module, name))
                self._functions[name.decode()] = function, self._parameters(function)

    def launch(self, name: str, grid: int, block: tuple[int, int], *arguments: Tensor | int) -> None:
        """Queue a kernel on torch's current stream of this GPU, and return at once.

        Parameters
        ----------
        name
            Of a kernel that is loaded.
        grid, block
            Blocks along x; threads of a block along x and y.
        arguments
            Tensors on this GPU, which go as pointers, and integers, which go as 64-bit words.

        Raises
        ------
        DeviceError
            If the driver refuses.
        """
        function, parameters = self._functions[name]
        # The driver does not count: it would read on beyond the last word.
        if parameters not in (None, len(arguments)):
            raise TypeError(f"{name} takes {parameters} arguments; got {len(arguments)}.")
        words = tuple(x.data_ptr() if isinstance(x, Tensor) else x for x in arguments)
        with torch.cuda.device(self._index):
            self._enter_context()
            stream = torch.cuda.current_stream(self._index).cuda_stream
            types = (ctypes.c_int64,) * len(words)
            self._asked(self._driver.cuLaunchKernel(function, grid, 1, 1, *block, 1, 0, stream, (words, types), 0))

    def _enter_context(self) -> None:
        # A thread in which torch has not reached the GPU yet has no context, and the driver does not choose one.
        if not int(self._asked(self._driver.cuCtxGetCurrent())):
            self._asked(self._driver.cuCtxSetCurrent(self._context))

    def _parameters(self, function: Any) -> int | None:
        """How many words a kernel takes; None where the driver is older than the question."""
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
            raise DeviceError(f"The driver of GPU {self._index} answers {error.name} to the WKV kernel.")
        return values[0] if values else None


def _index(device: torch.device) -> int:
    index: int | None = device.index
    if index is None:
        return torch.cuda.current_device() if torch.cuda.is_available() else 0
    return index


def _load(index: int, dtype: torch.dtype) -> str:
    """Compile and load what is missing; return why that failed."""
    # Nothing of CUDA may be imported before torch has found a GPU: without a driver it can hang.
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
    # Whatever else fails here, the portable form still runs.
    except Exception as error:
        return f"The compiled WKV kernel cannot be loaded ({type(error).__name__}: {error}): {_install_command()}"
    return ""


def _unfit(index: int) -> str:
    """Why this PyTorch or this GPU cannot run the kernels, as far as torch alone can tell."""
    if torch.version.hip:
        return "The compiled WKV kernel is for NVIDIA GPUs; on others the portable form is all there is."
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA: install a build with it, see pytorch.org."
    if not torch.cuda.is_available():
        return "PyTorch finds no NVIDIA GPU that works: see what nvidia-smi says, and update the driver."
    if torch.cuda.get_device_capability(index) < OLDEST:
        return (
            f"{torch.cuda.get_device_name(index)} is older than the GPUs that the compiled WKV kernel is made for, "
            f"those of compute capability {OLDEST[0]}.{OLDEST[1]} and newer; the portable form is all there is."
        )
    return ""


def _install_command() -> str:
    release = (torch.version.cuda or "").split(".")[0]
    return f'pip install "napari-restore-rwkv[cuda{release}]"'
