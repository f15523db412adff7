import pytest
import torch

from napari_restore_rwkv.device import choose_device, describe, free_memory
from napari_restore_rwkv.errors import DeviceError


def test_auto_is_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert describe(torch.device("cpu")).startswith("CPU, ")


@pytest.mark.parametrize("name", ["nonsense", "cpu:x"] + ([] if torch.cuda.is_available() else ["cuda"]))
def test_a_device_that_is_not_there_is_refused_in_words(name):
    with pytest.raises(DeviceError, match=f"finds no device '{name}' on this machine; choose 'auto' or 'cpu'"):
        choose_device(name)


def test_a_processor_does_not_tell_its_free_memory():
    assert free_memory(torch.device("cpu")) is None


def test_free_on_a_gpu_is_what_nobody_has_and_what_pytorch_keeps_for_reuse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_memory(torch.device("cuda:0")) == 1300
