"""Kernels that run the CUDA source on the CPU, in this process or in one that a sanitizer watches."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import torch

from napari_restore_rwkv.network.cuda_compiler import MACROS

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src_kernels" / "bi_wkv_cuda.cu"
ORDERS = {"ascending": 0, "descending": 1, "random": 2}


def compile_emulator(folder, *, source=SOURCE, program=False, options=()):
    """Compile the emulator for a kernel source; return the library, or the program that reads launches."""
    target = Path(folder) / ("emulator" if program else "emulator.so")
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    # It cannot tell that an array is read up to where it was written.
    command += ["-Wno-maybe-uninitialized", "-fno-strict-aliasing"]
    kind = [str(HERE / "watched_main.cpp")] if program else ["-shared", "-fPIC"]
    defines = [f'-DKERNEL_SOURCE="{source}"', f"-I{HERE}", f"-I{SOURCE.parent}"]
    defines += [f"-D{name}={value}" for name, value in MACROS.items()]
    subprocess.run(
        [*command, *kind, *options, *defines, str(HERE / "emulator.cpp"), "-o", str(target)], check=True, timeout=240
    )
    return target


class EmulatedKernels:
    """Runs every launch at once, its threads taking turns in the given order."""

    def __init__(self, library, order="ascending", seed=0):
        self.emulate = ctypes.CDLL(str(library)).emulate
        self.order, self.seed = ORDERS[order], seed
        self.launched = []

    def launch(self, name, grid, block, *arguments):
        self.launched.append(name)
        words = [ctypes.c_int64(a.data_ptr() if isinstance(a, torch.Tensor) else a) for a in arguments]
        pointers = (ctypes.c_void_p * len(words))(*(ctypes.addressof(word) for word in words))
        status = self.emulate(name.encode(), grid, *block, pointers, len(words), self.order, self.seed)
        assert status == 0, f"{name}: {('', 'a barrier is not reached by all threads', 'no such kernel')[status]}"


class WatchedKernels:
    """Sends every launch to a process of its own, whose sanitizer ends it at the first error."""

    def __init__(self, program, order="ascending", seed=0):
        self.order, self.seed = ORDERS[order], seed
        self.process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def launch(self, name, grid, block, *arguments):
        to, back = self.process.stdin, self.process.stdout
        to.write(f"{name} {grid} {block[0]} {block[1]} {self.order} {self.seed} {len(arguments)}\n".encode())
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                content = bytes_of(argument)
                to.write(f"b {content.nbytes}\n".encode())
                to.write(content.tobytes())
            else:
                to.write(f"i {argument}\n".encode())
        to.flush()
        status = back.read(1)
        assert status == b"\0", f"{name}: {status} {self.process.stderr.read().decode() if not status else ''}"
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                content = bytes_of(argument)
                content[:] = np.frombuffer(back.read(content.nbytes), np.uint8)

    def close(self):
        """Let the process end; return its exit code and what it said."""
        _, said = self.process.communicate(timeout=240)
        return self.process.returncode, said.decode()


def bytes_of(tensor):
    """The memory of a contiguous tensor."""
    return tensor.view(-1).view(torch.uint8).numpy()
