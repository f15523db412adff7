import pytest
import torch

from napari_restore_rwkv import device
from napari_restore_rwkv.device import choose_device, describe, free_memory
from napari_restore_rwkv.errors import DeviceError


def test_auto_is_the_cpu_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    assert describe(torch.device("cpu")).startswith("CPU, ")


@pytest.mark.parametrize("name", ["nonsense", "cpu:x"] + ([] if torch.cuda.is_available() else ["cuda"]))
def test_a_missing_device_is_refused_with_a_message(name):
    with pytest.raises(DeviceError, match=f"finds no device '{name}' on this machine; choose 'auto' or 'cpu'"):
        choose_device(name)


def meminfo(path, available, swap):
    path.write_text(f"MemTotal: 900000 kB\nMemAvailable:   {available} kB\nSwapFree:  {swap} kB\n")
    return path


def test_free_memory_of_a_cpu_is_what_the_system_could_allocate(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "_MEMINFO", meminfo(tmp_path / "meminfo", 1000, 24))
    monkeypatch.setattr(device, "_CONTAINERS", tmp_path / "none")
    assert free_memory(torch.device("cpu")) == 1 << 20


@pytest.mark.parametrize(("limit", "expected"), [("700000", 700000 - 500000 + 300000), ("max", 1 << 20)])
# A container sees itself as the root; a batch job is in the group of its node, its user and itself.
@pytest.mark.parametrize(
    ("own", "limited"), [("0::/", ""), ("1:cpu:/\n0::/slurm/job_7/step_0", "slurm/job_7"), ("", "")]
)
def test_a_container_with_a_limit_has_no_more_than_that(tmp_path, monkeypatch, own, limited, limit, expected):
    monkeypatch.setattr(device, "_MEMINFO", meminfo(tmp_path / "meminfo", 1000, 24))
    monkeypatch.setattr(device, "_CONTAINERS", tmp_path)
    monkeypatch.setattr(device, "_OWN_CONTAINER", tmp_path / "own")
    (tmp_path / "own").write_text(own)
    (tmp_path / limited).mkdir(parents=True, exist_ok=True)
    for name, content in (("max", limit), ("current", "500000"), ("stat", "anon 1\ninactive_file 300000\n")):
        (tmp_path / limited / f"memory.{name}").write_text(content)
    assert free_memory(torch.device("cpu")) == expected


def test_other_devices_do_not_report_free_memory():
    assert free_memory(torch.device("meta")) is None


def test_free_memory_of_a_gpu_includes_what_pytorch_keeps_for_reuse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_memory(torch.device("cuda:0")) == 1300
