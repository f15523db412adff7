"""``restore-rwkv doctor``: what it finds here, and what it says where something is wrong."""

import json
import sys

import pytest

from napari_restore_rwkv.commands import doctor
from napari_restore_rwkv.errors import RestoreError


def test_doctor_finds_everything_needed_here(run):
    code, out, err = run("doctor", "--device", "cpu", "--json")
    result = json.loads(out)
    assert code == 0, out
    assert err == ""
    findings = {finding["name"]: finding for finding in result["findings"]}
    assert findings["torch"]["state"] == "ok"
    assert findings["kernel"]["text"]
    assert findings["kernel and equation"]["state"] == "ok"
    assert all(finding["remedy"] for finding in result["findings"] if finding["state"] != "ok")


def test_doctor_says_which_kernel_and_device_in_plain_text(run):
    code, out, _ = run("doctor", "--device", "cpu")
    assert code == 0
    assert "CPU, " in out
    assert out.rstrip().endswith("Everything needed works.")
    columns = {line.index(" light, ") for line in out.splitlines() if " light, " in line}
    assert len(columns) == 1, "the findings stand below each other"


def test_doctor_fails_where_the_kernel_computes_something_else(run, monkeypatch):
    import torch

    monkeypatch.setattr("napari_restore_rwkv.network.bi_wkv.bi_wkv", lambda w, u, k, v: torch.zeros_like(v))
    code, out, _ = run("doctor", "--device", "cpu")
    assert code == 1
    assert "the results of this kernel cannot be trusted" in out


def test_doctor_names_what_is_missing_and_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    code, out, _ = run("doctor", "--device", "cpu")
    assert code == 1
    assert "pip install --force-reinstall pydicom" in out
    assert "see the lines marked failed" in out


def test_doctor_needs_no_library_that_restoring_does_without(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    monkeypatch.setitem(sys.modules, "magicgui", None)
    code, out, _ = run("doctor", "--device", "cpu")
    assert code == 0
    assert "zarr" not in out
    assert "magicgui" not in out


def test_doctor_reports_a_missing_device(run, monkeypatch):
    def refuse(_):
        raise RestoreError("There is no such device.")

    monkeypatch.setattr("napari_restore_rwkv.device.choose_device", refuse)
    code, out, _ = run("doctor")
    assert code == 1
    assert "There is no such device." in out
    assert "run with --device cpu" in out


def test_the_tolerance_of_doctor_is_far_below_a_wrong_decay():
    import torch

    from napari_restore_rwkv.network import bi_wkv as module

    right = module.bi_wkv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "bi_wkv", lambda w, u, k, v: right(w * 1.001, u, k, v))
        assert doctor.kernel_error(torch.device("cpu")) > 10 * doctor.TOLERANCE
