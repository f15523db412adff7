import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from phantom import clean_scan, noisy_scan, scan_of

from napari_restore_rwkv.metrics import psnr
from napari_restore_rwkv.network.checkpoint import for_inference
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import restore_slice
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.mri import low_resolution
from napari_restore_rwkv.training.acceptance import (
    CT_WINDOW_HU,
    Row,
    Score,
    blend,
    judge,
    mean_score,
    picture,
    restored,
    score_one,
    table,
)
from napari_restore_rwkv.training.crop_sampler import CropSampler
from napari_restore_rwkv.training.material import Material, check_material
from napari_restore_rwkv.training.png import grey_png

pytestmark = pytest.mark.slow

OLD = [Score(30.0, 0.9), Score(32.0, 0.92)]


def changed(psnr_by, ssim_by):
    return [Score(score.psnr + psnr_by, score.ssim + ssim_by) for score in OLD]


def test_more_than_a_tenth_of_a_decibel_with_ssim_no_worse_is_accepted():
    verdict = judge(OLD, changed(0.11, 0.0))
    assert verdict.accepted
    assert verdict.reason == "Accepted: the held-out slices gained 0.11 dB with SSIM no worse."


@pytest.mark.parametrize(
    ("psnr_by", "ssim_by", "words"),
    [
        (0.09, 0.01, "gained 0.09 dB, and more than 0.1 dB is needed"),
        (-0.5, 0.01, "lost 0.50 dB, and more than 0.1 dB is needed"),
        (0.0, 0.0, "gained nothing, and more than 0.1 dB is needed"),
        (1.0, -0.001, "gained 1.00 dB, but SSIM fell from 0.9100 to 0.9090"),
        (math.nan, 0.0, "are constant or identical to their reference, so nothing can be measured"),
    ],
)
def test_otherwise_the_old_weights_are_kept_with_the_reason(psnr_by, ssim_by, words):
    verdict = judge(OLD, changed(psnr_by, ssim_by))
    assert not verdict.accepted
    assert verdict.reason.startswith("Kept the old weights: the held-out slices ")
    assert words in verdict.reason


def test_an_estimate_may_decide_against_new_weights_and_never_for_them():
    verdict = judge(OLD, changed(2.0, 0.01), estimated=True)
    assert not verdict.accepted
    assert "Kept the old weights: the held-out slices gained 2.00 dB, but that is an estimate" in verdict.reason
    assert judge(OLD, changed(-1.0, 0.0), estimated=True).reason == judge(OLD, changed(-1.0, 0.0)).reason


def test_undefined_figures_are_left_out_of_means():
    mean = mean_score([Score(30, math.nan), Score(math.inf, 0.5), Score(31, math.nan)])
    assert (mean.psnr, mean.ssim) == (30.5, 0.5)


def held_slice(material):
    checked = check_material(material, "CT")
    [held] = CropSampler(checked, "ct-denoise").held_out(1)
    return held


def test_slices_with_a_reference_are_scored_in_the_window(pair, clean):
    held = held_slice(pair)
    expected = psnr(pair.degraded.voxels[held.index], clean.voxels[held.index], window=CT_WINDOW_HU)
    assert score_one(held.degraded, held, CT_WINDOW_HU).psnr == pytest.approx(expected)


def test_a_slice_is_scored_as_inference_restores_it(tiny_network, rng):
    image = low_resolution(500 + 60 * rng.normal(0, 1, (64, 64)).clip(-3, 3), 2)
    rule = choose_intensity(Scan(image[None], modality="MR"))
    card = replace(tiny_network.card, task="mri-sr", modality="MR", details={"keeps_measured": True, "turns": 4})
    network = for_inference(tiny_network, card)
    scored = restored(network, image, rule)
    np.testing.assert_allclose(scored, restore_slice(image, network, rule), atol=1e-3)
    plain = restored(for_inference(tiny_network, replace(card, details={})), image, rule)
    assert np.abs(scored - plain).max() > 1


def test_ignored_pixels_do_not_lower_the_score(pair):
    labels = np.zeros(pair.scan.shape, np.uint8)
    labels[:, :, :16] = 3
    held = held_slice(Material(pair.degraded, pair.target, labels))
    spoilt = held.target.astype(np.float32)
    spoilt[:, :16] = 3000
    assert score_one(spoilt, held, CT_WINDOW_HU).psnr == math.inf


def test_noisy_slices_are_scored_as_if_the_truth_were_known_or_rather_worse():
    still = scan_of(np.broadcast_to(clean_scan(side=96).voxels[8], (16, 96, 96)))
    held = held_slice(Material(noisy_scan(still, 30)))
    truth = still.voxels[0].astype(float)
    rng = np.random.default_rng(1)
    for deviation in (10, 20):
        image = truth + rng.normal(0, deviation, truth.shape)
        known = 20 * math.log10(np.ptp(held.target.clip(*CT_WINDOW_HU)) / deviation)
        assert known - 1.6 < score_one(image, held, CT_WINDOW_HU).psnr < known + 0.3


def test_blends_have_exact_ends_and_a_middle():
    old, new = {"a": torch.rand(5)}, {"a": torch.rand(5)}
    assert torch.equal(blend(old, new, 0)["a"], old["a"])
    assert torch.equal(blend(old, new, 1)["a"], new["a"])
    torch.testing.assert_close(blend(old, new, 0.5)["a"], (old["a"] + new["a"]) / 2)
    with pytest.raises(ValueError, match=r"amount for blending .* must be from 0 to 1; got 1\.5"):
        blend(old, new, 1.5)


def test_a_png_can_be_read_by_others(tmp_path):
    (tmp_path / "grey.png").write_bytes(grey_png(np.array([[0.0, 50, 100], [np.nan, -9, 999]]), 0, 100))
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "grey.png")))
    assert read.tolist() == [[0, 128, 255], [0, 0, 255]]


def test_a_picture_shows_its_images_side_by_side(tmp_path):
    images = [np.full((20, 30), value) for value in (-160.0, 40.0, 240.0)]
    (tmp_path / "both.png").write_bytes(picture(images, CT_WINDOW_HU))
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "both.png")))
    assert read.shape == (20, 3 * 30 + 2 * 4)
    assert (read[0, 0], read[0, 34], read[0, -1]) == (0, 128, 255)


def test_the_table_has_a_line_for_each_slice_and_the_mean():
    lines = table([Row(0, 7, *pair) for pair in zip(OLD, changed(1, 0.01), strict=True)]).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["0", "7", "30.00", "31.00", "0.9000", "0.9100"]
    assert lines[-1].split() == ["mean", "31.00", "32.00", "0.9100", "0.9200"]
