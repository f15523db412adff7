"""The source of the CUDA kernels, compiled for one GPU by NVRTC: no toolkit, no host compiler, no CUDA headers.

Compiled kernels are cached on disk under a digest of everything they were made from, with a checksum of that digest and
of themselves: a truncated file, or one made from something else, is not trusted but compiled again.
"""

import contextlib
import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import napari_restore_rwkv

from ..errors import DeviceError
from ..storage.durable import write_durably

_SOURCE = "bi_wkv_cuda.cu"
_INCLUDE = re.compile(r'#include "(\w+\.h)"')
# The line that defines the kernels for one number type.
_DEFINITION = re.compile(r"BI_WKV_DEFINE\(.+, (\w+)\)")
# How the work is divided: channels of a block, tokens of a segment, segments of a block; `carry` differs.
LANES, LENGTH, SEGMENTS = 16, 16, 8
CARRY_LANES, CARRY_GROUPS = 8, 128
MACROS = {
    "BI_WKV_LANES": LANES,
    "BI_WKV_LENGTH": LENGTH,
    "BI_WKV_SEGMENTS": SEGMENTS,
    "BI_WKV_CARRY_LANES": CARRY_LANES,
    "BI_WKV_CARRY_GROUPS": CARRY_GROUPS,
}
# ptxas reports registers and spills, which the tests check.
_OPTIONS: dict[str, Any] = {
    "std": "c++17",
    "ftz": True,
    "ptxas_options": ["-v"],
    "define_macro": [(name, str(value)) for name, value in MACROS.items()],
}
_CHECKSUM_BYTES = hashlib.sha256().digest_size


def source(number: str | None = None) -> str:
    """The kernels and the headers of this package that they include, as one source text.

    Parameters
    ----------
    number
        "float", "half" or "bfloat16": only the kernels for inputs of this type, in a third of the time. All by default.

    Raises
    ------
    DeviceError
        If the package was built without them.
    """
    # A checkout comes first, so that a change in it is compiled without reinstalling.
    folders = [Path(__file__).parents[2] / "src_kernels"]
    # An editable install keeps what CMake installs apart from the sources; the package's path names both places.
    folders += [Path(folder) / "network" for folder in napari_restore_rwkv.__path__]
    folder = next((folder for folder in folders if (folder / _SOURCE).is_file()), None)
    if folder is None:
        raise DeviceError(f"The package was built without {_SOURCE}: reinstall it.")
    lines = _joined(folder, _SOURCE, set())
    if number:
        unwanted = (match and match[1] != number for match in map(_DEFINITION.fullmatch, lines))
        lines = ["" if blank else line for blank, line in zip(unwanted, lines, strict=True)]
    return "\n".join(lines)


def compile_cubin(arch: str, text: str | None = None) -> tuple[bytes, str]:
    """Compile for one architecture; works without a GPU.

    Parameters
    ----------
    arch
        The exact architecture, such as "sm_86".
    text
        CUDA C++ without includes; by default `source()`.

    Returns
    -------
    tuple
        The machine code, an ELF file that loads only on GPUs of this architecture, and the compiler's log.

    Raises
    ------
    ImportError
        If cuda-core or cuda-bindings is not installed.
    DeviceError
        If NVRTC rejects the source or the architecture.
    """
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    options = ProgramOptions(arch=arch, name=_SOURCE, **_OPTIONS)
    try:
        program = Program(source() if text is None else text, "c++", options)
        cubin = bytes(program.compile("cubin", logs=log).code)
    # cuda-core documents only some of the errors that it raises.
    except Exception as error:
        lines = str(error).splitlines()
        reason = next((line for line in lines if "error:" in line), lines[0] if lines else type(error).__name__)
        raise DeviceError(f"NVRTC could not compile the WKV kernel for {arch}: {reason.strip()}") from error
    # For a virtual architecture NVRTC returns nothing, and no error either.
    if not cubin:
        raise DeviceError(f"NVRTC produced no machine code for {arch}; use a real architecture such as sm_86.")
    return cubin, log.getvalue()


def cached_cubin(arch: str, number: str) -> bytes:
    """Machine code of the kernels for inputs of one type, cached on disk where possible.

    Raises
    ------
    ImportError, DeviceError
        As `compile_cubin`, and if NVRTC is not found.
    """
    text = source(number)
    made_from = hashlib.sha256(repr((text, arch, nvrtc_version(), _OPTIONS)).encode()).digest()
    path = None
    # Without a home folder or permission, each process compiles again.
    with contextlib.suppress(OSError, RuntimeError):
        path = cache_folder() / f"bi_wkv_{number}_{arch}_{made_from.hex()[:32]}.cubin"
        entry = path.read_bytes()
        cubin = entry[_CHECKSUM_BYTES:]
        if entry[:_CHECKSUM_BYTES] == _checksum(made_from, cubin):
            return cubin
    cubin, _ = compile_cubin(arch, text)
    if path:
        # A full disk is not an error.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, _checksum(made_from, cubin) + cubin)
    return cubin


def nvrtc_version() -> tuple[int, int]:
    """Major and minor version of the compiler, the same as those of its CUDA release."""
    from cuda.bindings import __version__, nvrtc

    try:
        error, major, minor = nvrtc.nvrtcVersion()
    # Its loader raises several kinds of errors.
    except RuntimeError as reason:
        release = __version__.split(".")[0]
        wheel = "nvidia-cuda-nvrtc-cu12" if release == "12" else "nvidia-cuda-nvrtc"
        text = f"NVRTC {release}, which compiles the WKV kernel, is not found: pip install {wheel}"
        raise DeviceError(text) from reason
    if error:
        raise DeviceError(f"NVRTC, which compiles the WKV kernel, failed with {error.name}; reinstall it.")
    return major, minor


def cache_folder() -> Path:
    """Where compiled kernels are cached: RESTORE_RWKV_CACHE, or a folder in the platform's user cache."""
    if chosen := os.environ.get("RESTORE_RWKV_CACHE"):
        return Path(chosen)
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "napari-restore-rwkv" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "napari-restore-rwkv"


def _joined(folder: Path, name: str, included: set[str]) -> list[str]:
    """Replace the first include of each header by its text; the compiler still reports the original files and lines."""
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), start=1):
        include = _INCLUDE.fullmatch(line)
        if include and include[1] not in included:
            included.add(include[1])
            lines += [*_joined(folder, include[1], included), f'#line {number + 1} "{name}"']
        else:
            lines.append("" if include or line == "#pragma once" else line)
    return lines


def _checksum(made_from: bytes, cubin: bytes) -> bytes:
    return hashlib.sha256(made_from + cubin).digest()
