"""Loading and launching of kernels, seen by a stub of the driver; and the messages if that is not possible."""

import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from pretended_gpu import build_stub, pretend_gpu, run_beside_stub

from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.network import bi_wkv as operator
from napari_restore_rwkv.network import cuda_compiler, cuda_kernels
from napari_restore_rwkv.network.bi_wkv_reference import bi_wkv_reference

GPU = torch.device("cuda", 0)

PRELUDE = """
from napari_restore_rwkv.errors import DeviceError
from napari_restore_rwkv.network import bi_wkv_cuda, cuda_kernels
from napari_restore_rwkv.network.cuda_kernels import kernels_for

def word(x):
    return x.data_ptr() if isinstance(x, torch.Tensor) else x

class Noting:
    # Prints every launch as the stub should see it.
    def __init__(self, kernels):
        self.kernels = kernels

    def launch(self, name, grid, block, *arguments):
        print("launch", name, "grid", grid, 1, 1, "block", *block, 1, "shared", 0, end=" ")
        print("stream", stream.cuda_stream, "words", *map(word, arguments))
        self.kernels.launch(name, grid, block, *arguments)
"""


@pytest.fixture(scope="module")
def beside_stub(tmp_path_factory):
    """Run code beside the stub; kernels for sm_86 are compiled before, so that each run finds them in the cache."""
    folder = tmp_path_factory.mktemp("stub")
    build_stub(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTORE_RWKV_CACHE", str(folder / "cache"))
        cuda_compiler.cached_cubin("sm_86", "float")
    probe, _ = cuda_compiler.compile_cubin(
        "sm_86", 'extern "C" __global__ void probe(const float* x, long long small, long long large) {}'
    )
    (folder / "probe.cubin").write_bytes(probe)
    variables = {"RESTORE_RWKV_CACHE": str(folder / "cache"), "PROBE": str(folder / "probe.cubin")}

    def run(code, **more):
        return run_beside_stub(folder, folder / "log", PRELUDE + code, **variables, **more)

    return run


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Nothing asked, loaded or warned about before, and an empty cache."""
    monkeypatch.setattr(cuda_kernels, "_loaded", {})
    monkeypatch.setattr(cuda_kernels, "_answers", {})
    monkeypatch.setenv("RESTORE_RWKV_CACHE", str(tmp_path))
    operator._warn_once.cache_clear()


@pytest.mark.slow
def test_every_launch_reaches_the_driver_word_by_word(beside_stub):
    code = (
        "kernels = Noting(kernels_for(torch.device('cuda')))\n"
        "height, width, channels = 5, 53, 19\n"
        "w, u = torch.randn(2, channels)\n"
        "k, v, gy = torch.randn(3, 2, height * width, channels)\n"
        "stream.cuda_stream = 0x7f0012345678\n"
        "bi_wkv_cuda.forward(kernels, w, u, k, v, height, width, True)\n"
        "stream.cuda_stream = 0x55\n"
        "bi_wkv_cuda.backward(kernels, w, u, k, v, gy, height, width, False)\n"
    )
    expected, log = beside_stub(code)
    launches = [line for line in log if line.startswith("launch")]
    assert launches == expected.splitlines()
    assert len(launches) == 8
    assert [f"stream {0x7F0012345678} " in line for line in launches] == [True] * 3 + [False] * 5


@pytest.mark.slow
def test_integers_are_64_bits_wide_and_signed(beside_stub):
    code = (
        "import os, pathlib\n"
        "kernels = cuda_kernels.LoadedKernels(0)\n"
        "kernels.load(pathlib.Path(os.environ['PROBE']).read_bytes())\n"
        "kernels.launch('probe', 2**31 - 1, (8, 128), torch.zeros(1), -3, 2**40 + 1)\n"
    )
    _, log = beside_stub(code)
    assert log[0] == "load 1 kernels in context 1000"
    assert log[1].startswith("launch probe grid 2147483647 1 1 block 8 128 1 shared 0 stream 0 words ")
    assert log[1].endswith(" -3 1099511627777")


@pytest.mark.slow
def test_threads_load_once_and_each_finds_the_context_of_the_gpu(beside_stub):
    code = (
        "import threading\n"
        "x = torch.zeros(1)\n"
        "def work():\n"
        "    kernels_for(torch.device('cuda:3')).launch('bi_wkv_carry', 7, (8, 128), x, x, 1, 1)\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    _, log = beside_stub(code)
    assert [line for line in log if line.startswith("load")] == ["load 5 kernels in context 1003"]
    # The stub refuses a launch outside the context in which the kernel was loaded.
    assert sum(line.startswith("launch") for line in log) == 4


@pytest.mark.slow
def test_mistakes_and_refusals_are_errors_with_a_message(beside_stub):
    code = (
        "kernels = kernels_for(torch.device('cuda:0'))\n"
        "for arguments in ([torch.zeros(1)], [torch.zeros(1)] * 4):\n"
        "    try:\n"
        "        kernels.launch('bi_wkv_carry', 7, (8, 128), *arguments)\n"
        "    except (TypeError, DeviceError) as error:\n"
        "        print(error)\n"
    )
    said, log = beside_stub(code, STUB_LAUNCH_RESULT="700")
    assert said.splitlines() == [
        "bi_wkv_carry takes 4 arguments; got 1.",
        "The driver of GPU 0 reported CUDA_ERROR_ILLEGAL_ADDRESS for the WKV kernel.",
    ]
    # With too few words the driver would read beyond them.
    assert sum(line.startswith("launch") for line in log) == 1


@pytest.mark.slow
def test_a_driver_older_than_the_compiler_is_named_with_the_remedy(beside_stub):
    said, log = beside_stub(
        "torch.version.cuda = '12.8'\n"
        "from napari_restore_rwkv.network.bi_wkv import kernel_in_use\n"
        "status = kernel_in_use('cuda')\n"
        "print(status.name, status.why, sep='\\n')",
        STUB_DRIVER_VERSION="12080",
    )
    assert said.splitlines() == [
        "portable PyTorch",
        "The installed NVRTC is from CUDA 13, but the driver supports CUDA 12 at most: update the driver, or "
        'pip install "napari-restore-rwkv[cuda12]"',
    ]
    assert log == []


@pytest.mark.slow
def test_with_everything_in_place_the_compiled_kernel_is_in_use(beside_stub):
    said, _ = beside_stub(
        "from napari_restore_rwkv.network.bi_wkv import kernel_in_use\n"
        "status = kernel_in_use('cuda')\n"
        "print(status.name, repr(status.why), sep='\\n')",
    )
    assert said.splitlines() == ["compiled CUDA kernel (sm_86)", "''"]


def test_a_pytorch_without_cuda_is_named(fresh):
    if torch.version.cuda:
        pytest.fail("this suite runs on a PyTorch without CUDA")
    why = cuda_kernels.unavailable(GPU)
    assert why == f"PyTorch {torch.__version__} is built without CUDA: install a build with CUDA, see pytorch.org."


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"works": False}, "PyTorch finds no working NVIDIA GPU: check what nvidia-smi says, and update the driver."),
        ({"capability": (7, 0)}, "Pretended GPU is too old for the compiled WKV kernel"),
    ],
)
def test_a_gpu_that_cannot_run_the_kernel_is_named_before_cuda_is_imported(fresh, monkeypatch, how, said):
    pretend_gpu(monkeypatch, **how)
    monkeypatch.setattr(cuda_kernels, "cached_cubin", lambda *_: pytest.fail("asked for the compiler"))
    assert cuda_kernels.unavailable(GPU).startswith(said)


def test_an_amd_gpu_takes_the_portable_form(fresh, monkeypatch):
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "is for NVIDIA GPUs" in cuda_kernels.unavailable(GPU)


@pytest.mark.parametrize(("release", "extra"), [("12.8", "cuda12"), ("13.0", "cuda13")])
@pytest.mark.parametrize("module", ["cuda.core", "cuda.bindings"])
def test_a_missing_package_is_named_with_the_extra_for_this_pytorch(fresh, monkeypatch, module, release, extra):
    pretend_gpu(monkeypatch, release=release)
    monkeypatch.setitem(sys.modules, module, None)
    why = cuda_kernels.unavailable(GPU)
    assert why.startswith("The compiled WKV kernel needs cuda-core and cuda-bindings (")
    assert module in why
    assert why.endswith(f'pip install "napari-restore-rwkv[{extra}]"')


def test_a_missing_compiler_is_named(fresh, monkeypatch):
    from cuda.bindings import nvrtc

    def fail():
        raise RuntimeError("libnvrtc.so.13: cannot open shared object file")

    pretend_gpu(monkeypatch)
    monkeypatch.setattr(nvrtc, "nvrtcVersion", fail)
    said = "NVRTC 13, which compiles the WKV kernel, is not found: pip install nvidia-cuda-nvrtc"
    assert cuda_kernels.unavailable(GPU) == said


def test_a_kernel_that_does_not_compile_is_named(fresh, monkeypatch):
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(cuda_compiler, "source", lambda number: "__global__ void f() { nothing; }")
    assert cuda_kernels.unavailable(GPU).startswith(
        "NVRTC could not compile the WKV kernel for sm_86: bi_wkv_cuda.cu(1)"
    )


def test_any_other_failure_is_a_sentence_too(fresh, monkeypatch):
    def fail(*_):
        raise SystemError("error return without exception set")

    pretend_gpu(monkeypatch)
    monkeypatch.setattr(cuda_kernels, "cached_cubin", fail)
    why = cuda_kernels.unavailable(GPU)
    assert why.startswith("The compiled WKV kernel cannot be loaded (SystemError: error return without exception set)")
    with pytest.raises(DeviceError, match="cannot be loaded"):
        cuda_kernels.prepare(GPU)


def test_the_reason_is_found_once_by_all_threads(fresh, monkeypatch):
    asked = []

    def fail(arch, number):
        asked.append(number)
        raise DeviceError("no")

    pretend_gpu(monkeypatch)
    monkeypatch.setattr(cuda_kernels, "cached_cubin", fail)
    threads = [threading.Thread(target=cuda_kernels.unavailable, args=(GPU,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cuda_kernels.unavailable(torch.device("cuda")) == "no"
    assert asked == ["float"]
    assert cuda_kernels.unavailable(GPU, torch.bfloat16) == "no"
    assert asked == ["float", "bfloat16"]


def as_on_gpu(monkeypatch):
    """Send tensors of the CPU where those of a GPU go."""
    choose = operator._gpu_kernels
    monkeypatch.setattr(operator, "_gpu_kernels", lambda k: choose(SimpleNamespace(device=GPU, dtype=k.dtype)))
    monkeypatch.setattr(operator, "_has_cpu_kernel", lambda k: False)


def inputs(dtype, channels=3, tokens=131):
    w, u = torch.randn(2, channels, dtype=torch.float64) / tokens
    k, v = torch.randn(2, 1, tokens, channels, dtype=torch.float64).to(dtype)
    return [w.to(dtype), u.to(dtype), k, v]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_the_kernel_the_portable_form_answers_and_says_why_once(fresh, monkeypatch, dtype):
    pretend_gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    as_on_gpu(monkeypatch)
    leaves = [x.requires_grad_() for x in inputs(dtype)]
    with pytest.warns(UserWarning, match=r"portable form, which is many times slower\. .*needs cuda-core"):
        y = operator.bi_wkv(*leaves)
    # What our code warns about is an error from here on.
    y.float().sum().backward()
    operator.bi_wkv(*leaves)
    truth = bi_wkv_reference(*(x.double() for x in leaves))
    torch.testing.assert_close(y.double(), truth, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)


def test_float64_uses_the_portable_form_without_a_warning(fresh, monkeypatch):
    pretend_gpu(monkeypatch)
    as_on_gpu(monkeypatch)
    monkeypatch.setattr(cuda_kernels, "unavailable", lambda *_: pytest.fail("asked for a kernel"))
    w, u, k, v = inputs(torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(operator.bi_wkv(w, u, k, v), bi_wkv_reference(w, u, k, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernels_get_maps_in_their_own_dtype_and_parameters_in_float32(monkeypatch, dtype):
    seen = []

    class Doubling:
        def launch(self, name, grid, block, *arguments):
            seen.append((name, [x.dtype for x in arguments if isinstance(x, torch.Tensor)]))
            for x in arguments:
                if isinstance(x, torch.Tensor):
                    assert x.is_contiguous()
                    assert not x.requires_grad

    monkeypatch.setattr(operator, "_gpu_kernels", lambda k: Doubling())
    w, u, k, v = inputs(dtype)
    # A map whose channels are not side by side in memory.
    k = k.transpose(1, 2).contiguous().transpose(1, 2)
    leaves = [x.requires_grad_() for x in (w, u, k, v)]
    y = operator.bi_wkv(*leaves)
    y.backward(torch.ones_like(y))
    assert y.dtype == dtype
    assert [x.grad.dtype for x in leaves] == [dtype] * 4
    suffix = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat16"}[dtype]
    by_name = dict(seen)
    assert by_name[f"bi_wkv_output_{suffix}"] == [torch.float32, torch.float32, dtype, dtype, torch.float32, dtype]
    assert by_name["bi_wkv_carry"] == [torch.float32, torch.float32]
