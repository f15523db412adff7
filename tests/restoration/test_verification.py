import json

import pytest
import torch

from napari_restore_rwkv.restoration import verification
from napari_restore_rwkv.restoration.verification import check_inference


@pytest.mark.slow
def test_every_inference_mode_is_run_and_compared(small_scan, tiny_network):
    found = check_inference(tiny_network, small_scan, torch.device("cpu"))
    json.dumps(found, allow_nan=False)
    assert list(found["runs"]) == ["alone", "together", "recorded", "recorded, bfloat16", "recorded, float16"]
    for name, run in found["runs"].items():
        assert run["seconds_per_slice"] > 0
        assert (run["difference"]["largest"] > 0) == ("float16" in name)
    assert found["bytes_left"] == 0


@pytest.mark.slow
def test_a_difference_is_found(small_scan, tiny_network, monkeypatch):
    real = verification.run_images

    def spoiled(*arguments, record, **options):
        values, *rest = real(*arguments, record=record, **options)
        return values + 0.01 * record, *rest

    monkeypatch.setattr(verification, "run_images", spoiled)
    found = check_inference(tiny_network, small_scan, torch.device("cpu"))
    # A hundredth of the CT window.
    assert found["runs"]["recorded"]["difference"]["largest"] == pytest.approx(40.96, abs=0.1)
    assert found["runs"]["together"]["difference"]["largest"] == 0
