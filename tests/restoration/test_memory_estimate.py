"""The estimate of a slice's memory against the real use, and the behaviour if there is too little."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch

from napari_restore_rwkv.network import bi_wkv
from napari_restore_rwkv.network.bi_wkv import KernelStatus
from napari_restore_rwkv.network.fused_cpu import SWITCH
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration import memory_estimate
from napari_restore_rwkv.restoration.memory_estimate import bytes_per_slice, slices_at_once
from napari_restore_rwkv.restoration.precision import converted

pytestmark = pytest.mark.slow

# Wide enough for the widest level to be the last, and several blocks, whose results must not pile up.
SIZES = [(16, (2, 1, 1, 1), 2, 96, 128), (24, (1, 1, 1, 1), 1, 100, 61)]


def most_allocated(run):
    """Peak bytes allocated by PyTorch during a call."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    changes = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most


def network_and_image(channels, blocks, refinement, height, width):
    return RestoreRWKV(channels, blocks, refinement).fused(), torch.rand(1, 1, height, width)


def last(results):
    for result in results:
        kept = result
    return kept


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize("fused", ["0", "1"])
def test_the_estimate_is_what_a_cpu_takes(size, in_strips, fused, monkeypatch):
    monkeypatch.setenv(SWITCH, fused)
    # As on slices that are large beside a strip.
    monkeypatch.setattr("napari_restore_rwkv.network.strips.HIDDEN_VALUES_OF_A_STRIP", 1 << 14)
    network, image = network_and_image(*size)
    with torch.inference_mode():
        # The fused kernel's own copy of the weights is made with the first slice, and kept.
        network(image[..., :8, :8])
        taken = most_allocated(lambda: last(network.stages(image, in_strips=in_strips)))
    assert taken == pytest.approx(bytes_per_slice(network, *size[3:], in_strips=in_strips), rel=0.04)


@pytest.mark.parametrize("size", SIZES)
def test_the_estimate_is_what_a_gpu_takes_that_works_on_whole_maps(size, monkeypatch):
    network, image = network_and_image(*size)
    # With gradients enabled but none to compute, the hidden layer is whole on a processor as well.
    taken = most_allocated(lambda: network(image))
    monkeypatch.setattr(memory_estimate, "kernel_in_use", lambda device: KernelStatus("compiled CUDA kernel"))
    assert taken == pytest.approx(bytes_per_slice(copy.deepcopy(network).to("meta"), *size[3:]), rel=0.04)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_estimate_is_what_the_portable_operator_takes(size, precision, monkeypatch):
    monkeypatch.setenv(SWITCH, "0")
    monkeypatch.setattr(bi_wkv, "_has_cpu_kernel", lambda k: False)
    network, image = network_and_image(*size)
    network = converted(network, precision)
    with torch.inference_mode():
        taken = most_allocated(lambda: network(image))
    # A device without a compiled kernel.
    assert taken == pytest.approx(bytes_per_slice(copy.deepcopy(network).to("meta"), *size[3:]), rel=0.04)


@pytest.mark.parametrize("side", [64, 200, 1000])
def test_the_fused_kernel_takes_less_than_strips(side, monkeypatch):
    network = RestoreRWKV.light().fused()
    fused = bytes_per_slice(network, side, side)
    monkeypatch.setenv(SWITCH, "0")
    assert fused < bytes_per_slice(network, side, side, in_strips=True)


def test_half_precision_takes_the_estimate_on_a_cpu_that_converts_it():
    network, image = network_and_image(*SIZES[0])
    network = converted(network, "bfloat16")
    with torch.inference_mode():
        taken = most_allocated(lambda: network(image))
    assert taken == pytest.approx(bytes_per_slice(network, *SIZES[0][3:]), rel=0.04)


def test_half_precision_halves_what_a_gpu_takes(monkeypatch):
    monkeypatch.setattr(memory_estimate, "kernel_in_use", lambda device: KernelStatus("compiled CUDA kernel"))
    network = RestoreRWKV.light().fused()
    long, short = (bytes_per_slice(converted(network, p).to("meta"), 512, 512) for p in ("float32", "bfloat16"))
    assert 0.5 < short / long < 0.52


def test_a_slice_counts_with_the_rows_and_columns_that_it_is_padded_with():
    network = RestoreRWKV.light()
    assert bytes_per_slice(network, 505, 512) == bytes_per_slice(network, 512, 512)
    assert bytes_per_slice(network, 513, 512) > bytes_per_slice(network, 512, 512)
    with_border = RestoreRWKV.light()
    with_border.wrapped_border = 4
    assert bytes_per_slice(with_border, 504, 508) == bytes_per_slice(network, 512, 520)


@pytest.mark.parametrize(
    ("free", "per_slice", "pixels", "most", "expected"),
    [
        (1000, 100, 1, None, 8),
        (1000, 100, 1, 3, 3),
        (1000, 100, 1, 300, 8),
        (50, 100, 1, None, 1),
        (0, 100, 1, 5, 1),
        (10**12, 1, 512 * 512, None, 8),
        (10**12, 1, 4096 * 4096, None, 1),
        (10**12, 0, 512 * 512, 20, 20),
    ],
)
def test_a_batch_is_limited_by_memory_by_gain_and_by_request(free, per_slice, pixels, most, expected):
    assert slices_at_once(free, per_slice, pixels, most) == expected


# The same slice through the light network twice: with all memory, and with 0.88 times what is estimated for it.
SCRIPT = """
import json, resource
import torch
from napari_restore_rwkv.network import strips
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.restoration.memory_estimate import bytes_per_slice
from napari_restore_rwkv.restoration.executor import Executor
from napari_restore_rwkv.restoration.machine import machine_for

SIDE = 320
# Small beside the slice, as they are beside one that does not fit into a real machine.
strips.HIDDEN_VALUES_OF_A_STRIP = 1 << 18

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

torch.set_num_threads(1)
network = RestoreRWKV.light()
torch.nn.init.normal_(network.output.weight, std=0.01)
network = network.fused()
image = torch.rand(SIDE, SIDE).numpy()
estimate = bytes_per_slice(network, SIDE, SIDE)

def run(image):
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    with Executor(network, machine_for(torch.device("cpu"))) as executor:
        for _ in executor.submit([image]):
            pass
        return executor.collect(), executor.report()["in_strips"], (status("VmHWM") - before) / estimate

run(image[:32, :32])
whole, whole_in_strips, taken = run(image)
resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + int(0.88 * estimate),) * 2)
limited, in_strips, taken_in_strips = run(image)
print(json.dumps([taken, whole_in_strips, taken_in_strips, in_strips, bool((limited == whole).all())]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the size of a process, and limits it, this way")
def test_a_process_takes_what_was_estimated_and_strips_give_the_same_result():
    # Each buffer is mapped and unmapped on its own, so that the process is as large as what it uses.
    # The fused kernel needs less than strips do, and has none.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", SWITCH: "0"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    taken, whole_in_strips, taken_in_strips, in_strips, same = json.loads(done.stdout)
    assert taken == pytest.approx(1, abs=0.05)
    assert not whole_in_strips
    assert in_strips
    assert taken_in_strips < 0.88
    assert same
