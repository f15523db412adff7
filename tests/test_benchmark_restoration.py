"""The scripts behind the table of benchmarks/restoration.md: what can be checked without training."""

import benchmark_restoration
import numpy as np
import pytest
import restoration_cases
import torch
import unet

from napari_restore_rwkv.network.model import RestoreRWKV

pytestmark = pytest.mark.slow


@pytest.fixture
def case(rng):
    clean = np.kron(rng.integers(0, 5, (6, 6)), np.ones((8, 8))) * 50.0
    pairs = [restoration_cases.alone(clean + rng.normal(0, 20, clean.shape), clean)]
    return restoration_cases.Case("ct-denoise", "20 HU", "CT", "HU", None, pairs, pairs)


def test_a_new_unet_is_the_identity_at_any_size_and_as_large_as_ours():
    network, image = unet.UNet(), torch.rand(2, 1, 21, 34)
    assert torch.equal(network(image), image)
    sizes = [sum(p.numel() for p in one.parameters()) for one in (network, RestoreRWKV.light().fused())]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_tuned_filters_improve_the_slices_that_they_are_tuned_on(case):
    rows, _ = benchmark_restoration.measure(case, without=("bm3d", "unet"))
    scores = {row["method"]: row["psnr"] for row in rows}
    for name in ("NLM, tuned", "TV, tuned", "Gaussian, tuned"):
        assert scores[name] > scores["input"]
    assert "ours, light" in scores


def test_only_what_is_named_is_measured_and_no_filter_tuned_for_it(case, monkeypatch):
    monkeypatch.setattr(benchmark_restoration, "classical", None)
    rows, picture = benchmark_restoration.measure(case, only=["ours, light"])
    assert [row["method"] for row in rows] == ["input", "ours, light"]
    assert picture is None


def test_an_unknown_method_is_refused_with_the_known_ones(case, monkeypatch):
    monkeypatch.setattr(benchmark_restoration, "classical", lambda *_: {})
    with pytest.raises(SystemExit, match=r"No method is called unet; choose from input, .*ours, light"):
        benchmark_restoration.measure(case, only=["unet"])


def test_new_rows_take_the_place_of_old_ones_and_others_stay():
    def row(task, strength, method, psnr):
        return {"task": task, "strength": strength, "method": method, "psnr": psnr}

    known = [row("pet-low-count", "a", "input", 1), row("ct-denoise", "b", "TV", 2), row("ct-denoise", "c", "TV", 3)]
    measured = [row("ct-denoise", "b", "input", 4), row("ct-denoise", "b", "TV", 5)]
    assert [one["psnr"] for one in benchmark_restoration.together(known, measured)] == [4, 5, 3, 1]


def test_the_table_has_the_mean_gain_and_that_of_the_worst_slice(case):
    common = {"task": "t", "strength": "s", "ssim": 1.0, "rmse": 1.0, "unit": "HU", "seconds_per_slice": 0.0}
    common["peak_memory_mb"] = 0.0
    rows = [
        {**common, "method": "input", "psnr": 30.0, "psnr_of_slices": [29.0, 31.0]},
        {**common, "method": "ours", "psnr": 32.0, "psnr_of_slices": [30.0, 34.0]},
    ]
    head = {"date": "2026-01-01", "machine": "m", "threads": 1, "slices": 2}
    text = benchmark_restoration.table(rows, {"t": head})
    assert "| t | s | ours | 32.00 | +2.00 | +1.00 |" in text
    assert "- t: 2026-01-01, m, 1 thread(s), at most 2 slices" in text


def test_the_limits_on_the_cards_are_below_the_table():
    text = benchmark_restoration.qualified()
    assert "| ct-denoise | 22 HU, standard kernel | contrast kept, 5 HU, 11 px |" in text
    assert "**miss**" in text
    assert "nan" not in text
