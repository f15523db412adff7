"""The calls of torch.cuda behind a job, on a torch.cuda that only records them; their effect is tested on a GPU."""

from collections import defaultdict
from unittest import mock

import numpy as np
import pytest
import torch

from napari_restore_rwkv.restoration import machine as machine_module
from napari_restore_rwkv.restoration.executor import Executor
from napari_restore_rwkv.restoration.machine import CudaMachine, Machine, machine_for

DEVICE = torch.device("cuda:0")
FUNCTIONS = (
    "current_stream",
    "empty_cache",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "synchronize",
)


@pytest.fixture
def cuda(monkeypatch):
    """Records every call, which must have the arguments of the real function."""
    notes = mock.MagicMock()
    for name in FUNCTIONS:
        notes.attach_mock(mock.create_autospec(getattr(torch.cuda, name)), name)
    for name in ("stream", "device", "graph"):
        notes.attach_mock(mock.MagicMock(), name)
    notes.attach_mock(mock.MagicMock(side_effect=lambda device: mock.MagicMock()), "Stream")
    notes.memory_allocated.return_value = 100
    monkeypatch.setattr(machine_module, "_idle_streams", defaultdict(list))
    for name in (*FUNCTIONS, "stream", "device", "graph", "Stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, getattr(notes, name))
    return notes


def names(cuda):
    return [call[0] for call in cuda.mock_calls]


def test_each_device_has_its_machine(cuda):
    assert type(machine_for(torch.device("cpu"))) is Machine
    assert type(machine_for(torch.device("meta"))) is Machine
    assert type(machine_for(DEVICE)) is CudaMachine


def test_a_stream_waits_for_what_was_queued_before_it_was_made(cuda):
    stream = CudaMachine(DEVICE).stream()
    stream.wait_stream.assert_called_once_with(cuda.current_stream.return_value)


def test_streams_are_reused_by_later_jobs_but_never_shared(cuda):
    first, beside = CudaMachine(DEVICE), CudaMachine(DEVICE)
    streams = [first.stream() for _ in range(3)]
    assert len({id(stream) for stream in (*streams, *(beside.stream() for _ in range(3)))}) == 6
    first.close()
    after = CudaMachine(DEVICE)
    assert {id(after.stream()) for _ in range(3)} == {id(stream) for stream in streams}
    # A stream that was used before waits for the caller again.
    assert all(stream.wait_stream.call_count == 2 for stream in streams)


def test_a_copy_is_queued_on_its_stream_and_not_waited_for(cuda):
    target, stream = mock.MagicMock(), mock.MagicMock()
    CudaMachine(DEVICE).copy(target, source := torch.zeros(1), stream)
    cuda.stream.assert_called_once_with(stream)
    target.copy_.assert_called_once_with(source, non_blocking=True)
    assert "synchronize" not in names(cuda)


def test_the_network_runs_on_its_stream_in_exact_float32(cuda):
    machine, stream = CudaMachine(DEVICE), mock.MagicMock()
    before = torch.backends.cudnn.allow_tf32
    with machine.computing(stream):
        cuda.stream.assert_called_once_with(stream)
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_recording_is_made_on_the_networks_stream_and_leaves_other_threads_alone(cuda):
    stream = mock.MagicMock()
    replay, result = CudaMachine(DEVICE).record(lambda: "result", stream)
    cuda.graph.assert_called_once_with(cuda.CUDAGraph.return_value, stream=stream, capture_error_mode="thread_local")
    assert result == "result"
    replay()
    cuda.CUDAGraph.return_value.replay.assert_called_once_with()


def test_memory_is_counted_from_the_start_of_the_job(cuda):
    machine = CudaMachine(DEVICE)
    cuda.reset_peak_memory_stats.assert_called_once_with(DEVICE)
    cuda.max_memory_allocated.return_value = 350
    assert machine.peak_memory() == 250
    cuda.mem_get_info.return_value, cuda.memory_reserved.return_value = (1000, 2000), 400
    assert machine.free_memory() == 1300


def test_a_job_ends_with_waiting_and_then_emptying_the_cache(cuda):
    with Executor(torch.nn.Identity(), CudaMachine(DEVICE)):
        pass
    assert names(cuda)[-5:] == ["synchronize", "device", "device().__enter__", "empty_cache", "device().__exit__"]
    cuda.device.assert_called_with(DEVICE)
    cuda.synchronize.assert_called_once_with(DEVICE)


def test_host_buffers_of_a_gpu_are_pinned(cuda, monkeypatch):
    empty = mock.MagicMock()
    monkeypatch.setattr(torch, "empty", empty)
    machine = CudaMachine(DEVICE)
    machine.host_buffer((2, 1, 3, 3))
    empty.assert_called_once_with((2, 1, 3, 3), pin_memory=True)
    machine.device_buffer((2, 1, 3, 3))
    empty.assert_called_with((2, 1, 3, 3), device=DEVICE)


def test_another_device_computes_in_place():
    machine = Machine(torch.device("cpu"))
    assert machine.device_buffer((2,)).device == machine.device
    assert machine.free_memory() is None
    with Executor(torch.nn.Identity(), machine) as executor:
        assert list(executor.submit([np.ones((2, 2), np.float32)])) == [""]
        assert (executor.collect() == 1).all()
