import pytest
import torch

from napari_restore_rwkv.device import choose_device, describe
from napari_restore_rwkv.errors import DeviceError


def test_auto_is_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert describe(torch.device("cpu")).startswith("CPU, ")


@pytest.mark.parametrize("name", ["nonsense", "cpu:x"] + ([] if torch.cuda.is_available() else ["cuda"]))
def test_a_device_that_is_not_there_is_refused_in_words(name):
    with pytest.raises(DeviceError, match=f"finds no device '{name}' on this machine; choose 'auto' or 'cpu'"):
        choose_device(name)
