"""The CUDA source under NVRTC, for every architecture, without a GPU; and the cache of what it compiled."""

import re

import pytest

from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.network import cuda_compiler
from napari_restore_rwkv.network.cuda_compiler import cached_cubin, compile_cubin, source

pytestmark = pytest.mark.slow

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
PASSES = ("summarise", "output", "summarise_gradient", "gradients")
REGISTERS_OF_A_BLOCK = 65536
STATIC_SHARED_MEMORY = 48 * 1024


def kernels_of(*numbers):
    return {"bi_wkv_carry", *(f"bi_wkv_{name}_{number}" for name in PASSES for number in numbers)}


def compiled_kernels(cubin):
    return {name.decode() for name in re.findall(rb"\.text\.(\w+)\0", cubin)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_kernels_compile_for_every_architecture_and_fit(arch):
    cubin, log = compile_cubin(arch)
    assert "warning" not in log.lower()
    assert cubin.startswith(b"\x7fELF")
    assert compiled_kernels(cubin) == kernels_of("float", "half", "bfloat16")
    assert {*re.findall(r"(\d+) bytes spill (?:stores|loads)", log)} == {"0"}
    reports = log.split("Compiling entry function ")[1:]
    assert {report.split("'")[1] for report in reports} == compiled_kernels(cubin)
    for report in reports:
        threads = 1024 if report.startswith("'bi_wkv_carry'") else 128
        [registers] = re.findall(r"Used (\d+) registers", report)
        # The hardware hands registers out by eights.
        assert -(-int(registers) // 8) * 8 * threads <= REGISTERS_OF_A_BLOCK, report
        assert sum(map(int, re.findall(r"(\d+) bytes smem", report))) <= STATIC_SHARED_MEMORY, report


@pytest.mark.parametrize("number", ["float", "half", "bfloat16"])
def test_one_type_of_number_is_compiled_alone(number):
    text = source(number)
    assert re.findall(r"^BI_WKV_DEFINE\(.*, (\w+)\)$", text, flags=re.MULTILINE) == [number]
    assert len(text.splitlines()) == len(source().splitlines())


def test_a_mistake_is_reported_with_its_file_and_line():
    with pytest.raises(DeviceError, match=r"for sm_86: bi_wkv_cuda\.cu\(2\): error: .*nothing.* is undefined"):
        compile_cubin("sm_86", "\n__global__ void f() { nothing; }")
    header = "bi_wkv_cuda_numbers.h"
    lines = source("float").splitlines()
    # The first line of the header, whose number counts from its own top.
    lines.insert(lines.index(f'#line 1 "{header}"') + 1, "nothing;")
    with pytest.raises(DeviceError, match=rf"{re.escape(header)}\(1\): error"):
        compile_cubin("sm_86", "\n".join(lines))


def test_an_architecture_without_machine_code_is_refused():
    with pytest.raises(DeviceError, match=r"no machine code for compute_86; use a real architecture such as sm_86"):
        compile_cubin("compute_86", 'extern "C" __global__ void f() {}')
    with pytest.raises(DeviceError, match=r"NVRTC could not compile the WKV kernel for sm_1: .*gpu-architecture"):
        compile_cubin("sm_1", 'extern "C" __global__ void f() {}')


def test_a_package_without_the_source_says_so(monkeypatch):
    monkeypatch.setattr(cuda_compiler, "_SOURCE", "missing.cu")
    with pytest.raises(DeviceError, match=r"built without missing\.cu: reinstall it"):
        source()


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """What was compiled, one entry a time, by a compiler that makes up its machine code; the cache is empty."""
    calls = []

    def compile_nothing(arch, text):
        calls.append(arch)
        return f"machine code {len(calls)}".encode(), ""

    monkeypatch.setattr(cuda_compiler, "compile_cubin", compile_nothing)
    monkeypatch.setenv("RESTORE_RWKV_CACHE", str(tmp_path / "cache"))
    return calls


def only_entry(tmp_path):
    [path] = (tmp_path / "cache").iterdir()
    return path


def test_a_kernel_is_compiled_once_and_then_read(compiled, tmp_path):
    first = cached_cubin("sm_86", "float")
    assert cached_cubin("sm_86", "float") == first == b"machine code 1"
    assert compiled == ["sm_86"]
    # Nothing temporary stays behind.
    assert only_entry(tmp_path).suffix == ".cubin"


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: b"",
        lambda entry: entry[:20],
        lambda entry: entry[:-1],
        lambda entry: entry + b"\0",
        lambda entry: entry[:40] + bytes([entry[40] ^ 1]) + entry[41:],
        lambda entry: b"\x7fELF a cubin that something else left here",
    ],
    ids=["empty", "cut in the checksum", "truncated", "longer", "one bit", "foreign"],
)
def test_a_damaged_entry_is_compiled_again_and_replaced(compiled, tmp_path, damage):
    cached_cubin("sm_86", "float")
    path = only_entry(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cached_cubin("sm_86", "float") == b"machine code 2"
    assert cached_cubin("sm_86", "float") == b"machine code 2"
    assert len(compiled) == 2


def test_a_sound_entry_of_another_kernel_is_not_trusted(compiled, tmp_path):
    cached_cubin("sm_86", "float")
    path = only_entry(tmp_path)
    cached_cubin("sm_86", "half")
    [other] = set((tmp_path / "cache").iterdir()) - {path}
    path.write_bytes(other.read_bytes())
    assert cached_cubin("sm_86", "float") == b"machine code 3"


def test_other_sources_compilers_architectures_and_options_are_other_entries(compiled, monkeypatch):
    version, text = cuda_compiler.nvrtc_version(), source("float")

    def compiles_anew():
        before = len(compiled)
        cached_cubin("sm_86", "float")
        return len(compiled) > before

    assert compiles_anew()
    assert not compiles_anew()
    monkeypatch.setattr(cuda_compiler, "nvrtc_version", lambda: (version[0], version[1] + 1))
    assert compiles_anew()
    monkeypatch.setattr(cuda_compiler, "source", lambda number: text + "\n")
    assert compiles_anew()
    monkeypatch.setitem(cuda_compiler._OPTIONS, "fma", False)
    assert compiles_anew()
    cached_cubin("sm_89", "float")
    assert compiled[-1] == "sm_89"


def test_without_a_folder_for_it_every_start_compiles(compiled, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert cached_cubin("sm_86", "float") == b"machine code 1"
    assert cached_cubin("sm_86", "float") == b"machine code 2"
    monkeypatch.setattr(cuda_compiler, "cache_folder", lambda: exec("raise RuntimeError('no home directory')"))
    assert cached_cubin("sm_86", "float") == b"machine code 3"


def test_a_disk_that_fills_up_leaves_no_half_entry(compiled, tmp_path, monkeypatch):
    def fill_up(number):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fill_up)
    assert cached_cubin("sm_86", "float") == b"machine code 1"
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.delenv("RESTORE_RWKV_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cuda_compiler.cache_folder() == tmp_path / "napari-restore-rwkv"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cuda_compiler.cache_folder() == tmp_path / ".cache" / "napari-restore-rwkv"
