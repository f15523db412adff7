"""The recipes of the shipped weights, on packed data small enough for a test."""

import numpy as np
import pytest
import torch
from recipes import all_in_one, ct_denoise, mri_sr, pet_low_count
from recipes.contrast import random_contrast, random_shading
from recipes.losses import lesion_error, root_error, transfer_error, unmeasured_error
from recipes.mri_slices import field_of_view, random_phantom
from recipes.recipe import load_slices, save_slices
from recipes.table import RECIPES

from napari_restore_rwkv.network.checkpoint import earlier_checkpoints, shipped_checkpoints
from napari_restore_rwkv.network.model import CONTEXT_CHANNELS, RestoreRWKV
from napari_restore_rwkv.tasks import TASKS

pytestmark = pytest.mark.slow


@pytest.fixture
def mri_folder(rng, tmp_path):
    y, x = np.mgrid[:150, :130]
    head = (200 * ((y - 75) ** 2 / 60**2 + (x - 65) ** 2 / 50**2 < 1) + rng.integers(0, 20, (150, 130))).astype(
        np.uint8
    )
    groups = {name: [head] for name in mri_sr.GROUPS if name not in {"ct", "phantoms"}}
    groups["ct"] = [(head.astype(np.int16) - 100) * 5]
    save_slices(groups, tmp_path / "slices.safetensors")
    save_slices(
        {"slice": [head.astype(np.int16)] * 25, "limb": [head.astype(np.float32)]}, tmp_path / "validation.safetensors"
    )
    return tmp_path


@pytest.fixture
def pet_folder(rng, tmp_path):
    full = rng.integers(0, 9000, (128, 128)).astype(np.uint16)
    pairs = {"low": [full // 2], "full": [full], "lesions": [np.eye(128, dtype=np.int16)]}
    save_slices(pairs, tmp_path / "pairs.safetensors")
    for reduction in pet_low_count.MEASURED_REDUCTIONS:
        many = {name: images * 2 for name, images in pairs.items()}
        for uptake in (pet_low_count.PHANTOM, pet_low_count.REAL):
            save_slices(many, tmp_path / f"{uptake}_{reduction:g}.safetensors")
    return tmp_path


@pytest.fixture
def ct_folder(rng, tmp_path):
    body = np.where(np.hypot(*np.ogrid[-48:48, -48:48]) < 40, rng.normal(40, 20, (3, 96, 96)), -1000)
    slices = list(body.astype(np.int16))
    save_slices(dict.fromkeys(("chest_a", "chest_f", "thorax"), slices), tmp_path / "clean.safetensors")
    for name in ct_denoise.PIXELS_MM:
        projected = {
            "slices": [np.arange(3)],
            "realisations": list(rng.normal(size=(3, 2, 96, 96)).astype(np.float16)),
        }
        save_slices(projected, tmp_path / f"projected_{name}.safetensors")
    noisy = [(body + rng.normal(0, 30, body.shape)).astype(np.float32) for _ in ct_denoise.WATCHED]
    clean = [body[0].astype(np.float32)] * len(noisy)
    save_slices({"noisy": noisy, "clean": clean}, tmp_path / "validation.safetensors")
    return tmp_path


@pytest.fixture
def few_slices(monkeypatch):
    """Measure on fewer slices than the cards do."""
    monkeypatch.setattr(mri_sr, "MEASURED_SLICES", (2, 3))
    monkeypatch.setattr(mri_sr, "WATCHED_SLICES", (1,))
    monkeypatch.setattr(pet_low_count, "WATCHED_SLICES", (0,))


def batches(draw, count=12):
    return [draw(np.random.default_rng((3, i))) for i in range(count)]


@pytest.mark.parametrize("seed", range(12))
def test_another_contrast_stays_between_0_and_1_and_keeps_shape_and_type(rng, seed):
    image = rng.random((30, 20)).astype(np.float32)
    for change in (random_contrast, random_shading):
        changed = change(image, np.random.default_rng(seed))
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_contrasts_differ_and_some_are_not_monotone():
    ramp = np.linspace(0, 1, 400, dtype=np.float32)[None]
    rises = [np.diff(random_contrast(ramp, np.random.default_rng(i))[0]) for i in range(40)]
    falling = sum(bool((steps < -1e-4).any()) for steps in rises)
    assert 3 <= falling <= 30


def test_packed_slices_come_back_by_group_in_order(tmp_path):
    groups = {"a": [np.full((2, 3), i, np.uint8) for i in range(12)], "b": [np.zeros((4, 4), np.int16)]}
    save_slices(groups, tmp_path / "slices.safetensors")
    loaded = load_slices(tmp_path / "slices.safetensors")
    assert [int(image[0, 0]) for image in loaded["a"]] == list(range(12))
    assert loaded["b"][0].dtype == np.int16


def test_mri_batches_are_low_and_sharp_images_of_the_same_thing(mri_folder):
    for low, sharp, measured in batches(mri_sr.draw(mri_folder)):
        assert low.shape == sharp.shape == measured.shape
        assert low.dtype == sharp.dtype == torch.float32
        assert float(low.min()) >= 0
        assert float(low.max()) <= 1
        # What was measured is about the same in both; what was not is missing in one.
        spectra = [torch.fft.fft2(images, norm="ortho") for images in (low, sharp)]
        difference = (spectra[0] - spectra[1]).abs().square()
        inside, missing = (difference * measured).sum(), (difference * ~measured).sum()
        assert missing > 0
        assert inside < 0.5 * (spectra[1].abs().square() * measured).sum()


def test_mri_batches_have_the_sizes_that_will_be_used(mri_folder):
    longest = {count: max(side for side, among in mri_sr.CROPS if among == count) for _, count in mri_sr.CROPS}
    sides = set()
    for low, _, _ in batches(mri_sr.draw(mri_folder), 30):
        count, _, *shape = low.shape
        assert max(shape) <= longest[count]
        sides |= set(shape)
    # Odd fields of view ring in another way than even ones.
    assert {side % 2 for side in sides} == {0, 1}
    assert len(sides) > 12


def test_mri_fields_of_view_fade_at_the_rim_or_end_in_an_edge():
    sharp, rng = np.ones((40, 50), np.float32), np.random.default_rng(0)
    faded, edged = (field_of_view(sharp, (31, 60), rng, share) for share in (1.0, 0.0))
    assert faded.shape == edged.shape == (31, 60)
    assert max(image.max() for image in (faded[0], faded[-1], faded[:, 0], faded[:, -1])) < 0.03
    assert faded[15, 30] == 1
    assert (edged == 1).all()


def test_mri_batches_are_determined_by_the_generator(mri_folder):
    draw = mri_sr.draw(mri_folder)
    first, again = draw(np.random.default_rng(8)), draw(np.random.default_rng(8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_ct_batches_are_slices_with_context_clipped_as_inference_clips_them(ct_folder):
    noisy = [batch[0] for batch in batches(ct_denoise.draw(ct_folder, projected_share=0.5))]
    assert {images.shape[1] for images in noisy} == {1 + CONTEXT_CHANNELS}
    assert min(float(images.min()) for images in noisy) == 0
    # The level is one number an image, and sometimes unknown.
    assert all(float(images[:, 3].flatten(1).std(dim=1).max()) < 1e-6 for images in noisy)


def test_half_of_a_ct_batch_is_the_other_half_without_its_probes(ct_folder):
    pairs = [batch for batch in batches(ct_denoise.draw(ct_folder, projected_share=0.5), 20) if batch[4].any()]
    assert len(pairs) > 5
    for noisy, clean, signal, labels, weights in pairs:
        half = len(noisy) // 2
        inside = (clean[:half] > 0.05) & (clean[:half] < 0.9) & (noisy[:half, :1] > 0) & (noisy[half:, :1] > 0)
        for images in (noisy[:, :1], clean):
            torch.testing.assert_close(
                (images[:half] - images[half:])[inside], signal[:half][inside], atol=1e-6, rtol=0
            )
        assert not signal[half:].any()
        assert not labels[half:].any()
        assert float(weights.max()) <= 1


def test_probes_that_come_through_cost_nothing_and_those_that_fade_cost_their_share():
    clean, signal = torch.full((2, 1, 8, 8), 0.3), torch.zeros(2, 1, 8, 8)
    signal[0, 0, 2:5, 2:5] = 0.01
    labels = (signal > 0).short()
    kept = transfer_error(clean + signal, clean + signal, clean, signal, labels, labels.float())
    assert float(kept) == pytest.approx(float(root_error(clean, clean)))
    faded = clean + 0.6 * signal
    cost = transfer_error(faded, clean + signal, clean, signal, labels, 0.5 * labels)
    assert float(cost) == pytest.approx(float(root_error(faded, clean + signal)) + 0.0015 * 0.5 * 0.4**2, rel=1e-4)
    # What is wrong in both halves is no loss of contrast.
    biased = clean + signal + 0.1
    cost = transfer_error(biased, clean + signal, clean, signal, labels, labels.float())
    assert float(cost) == pytest.approx(float(root_error(biased, clean + signal)))


def test_pet_batches_are_the_same_place_at_the_same_scale(pet_folder):
    for low, full, _ in batches(pet_low_count.draw(pet_folder)):
        inside = (full > 0.01) & (full < 1)
        torch.testing.assert_close(low[inside] / full[inside], torch.full((int(inside.sum()),), 0.5), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("recipe", "folder"),
    [(ct_denoise.RECIPE, "ct_folder"), (mri_sr.RECIPE, "mri_folder"), (pet_low_count.RECIPE, "pet_folder")],
)
def test_a_network_that_changes_nothing_gains_nothing(few_slices, recipe, folder, request):
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1).fused()
    rows = recipe.measure(request.getfixturevalue(folder), network)
    assert rows
    for row in rows:
        assert row["psnr_after"] == pytest.approx(row["psnr_before"], abs=0.05)
        assert abs(row["worst_gain"]) < 0.1
    assert "score" in recipe.watch(request.getfixturevalue(folder))(network)


def test_pet_lesions_are_reported_as_a_fraction_of_full_count(pet_folder):
    network = RestoreRWKV(channels=4, blocks=(1, 1, 1, 1), refinement=1).fused()
    [row, *_] = pet_low_count.measure(pet_folder, network)
    assert row["lesions"] == 2
    assert row["lesion_mean_before"] == pytest.approx(0.5, abs=0.01)


def test_an_inverted_slice_keeps_air_dark_and_turns_the_rest():
    turned = mri_sr.inverted(np.array([[0.0, 200.0, 1000.0]] * 3))
    assert turned[0, 0] == 0
    assert turned[0, 1] > turned[0, 2] > 0


def test_all_in_one_draws_from_every_task(mri_folder, pet_folder, ct_folder, tmp_path):
    for task in all_in_one.PARTS:
        (tmp_path / task).mkdir()
    for path in tmp_path.glob("*.safetensors"):
        for task in all_in_one.PARTS:
            (tmp_path / task / path.name).write_bytes(path.read_bytes())
    # All wrote into one folder: what the tasks read last under a name decides, so only MRI and CT are told apart here.
    (tmp_path / "pet-low-count" / "pairs.safetensors").unlink()
    full = np.full((128, 128), 3000, np.uint16)
    save_slices({"low": [full], "full": [full], "lesions": [full]}, tmp_path / "pet-low-count" / "pairs.safetensors")
    drawn = batches(all_in_one.draw(tmp_path), 20)
    assert {int(batch[-1]) for batch in drawn} == {0, 1, 2}
    assert {len(batch) for batch in drawn if batch[-1] == 0} == {6}


def test_all_in_one_evaluates_every_task_as_its_own_recipe_does():
    clean = torch.full((1, 1, 8, 8), 0.5)
    restored, mask = clean + 0.1, torch.zeros(1, 1, 8, 8, dtype=torch.int16)
    mask[..., :2, :2] = 1
    judged = [
        float(all_in_one.error_of_task(restored, clean, clean, *rest, torch.tensor(task)))
        for task, rest in enumerate(((clean, mask, 0 * clean), (mask.bool(),), (mask,)))
    ]
    expected = [root_error(restored, clean), unmeasured_error(restored, clean, clean, mask.bool())]
    assert judged == pytest.approx([*map(float, expected), float(lesion_error(restored, clean, clean, mask))])
    assert len(set(judged)) == 3


def test_a_lesion_that_fades_costs_a_share_of_what_it_lost():
    clean = torch.zeros(2, 1, 8, 8)
    clean[..., 2:4, 2:4] = 0.5
    lesions = (clean > 0).short()
    faded = clean * 0.8
    expected = float(root_error(faded, clean)) + 0.03 * 0.2
    assert float(lesion_error(faded, clean, clean, lesions)) == pytest.approx(expected, rel=1e-4)
    # What lies beyond the field of view has no uptake to be off from.
    assert float(lesion_error(clean * 0 + 0.001, clean * 0, clean, lesions)) == pytest.approx(1.4e-3, rel=0.1)
    # Noise that leaves the mean of the lesion as it is costs nothing more.
    noisy = clean + (torch.arange(8) % 2 * 2 - 1) * 0.1
    assert float(lesion_error(noisy, clean, clean, lesions)) == pytest.approx(float(root_error(noisy, clean)))


def test_the_root_error_is_the_mean_of_roots():
    clean = torch.zeros(2, 1, 4, 4)
    restored = torch.stack([torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.1)])
    assert float(root_error(restored, clean)) == pytest.approx(0.2, rel=1e-3)


def test_errors_at_measured_frequencies_count_a_quarter():
    clean, ripple = torch.zeros(1, 1, 8, 8), torch.cos(torch.arange(8) * np.pi / 2).expand(1, 1, 8, 8)
    measured = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    unmeasured = float(unmeasured_error(ripple, clean, clean, measured))
    measured[..., [2, 6]] = True
    assert float(unmeasured_error(ripple, clean, clean, measured)) == pytest.approx(unmeasured / 5, rel=0.01)
    assert float(unmeasured_error(ripple, clean)) == pytest.approx(unmeasured, rel=1e-4)


def test_a_random_phantom_is_the_same_object_at_any_matrix():
    coarse, fine = (np.fft.fft2(random_phantom(side, np.random.default_rng(3))) / side**2 for side in (96, 192))
    lowest = np.ix_(*2 * [np.r_[:20, -20:0]])
    # The magnitude of the image, which is taken last, adds a little ringing.
    assert abs(fine[lowest] - coarse[lowest]).max() < 0.01 * abs(fine[0, 0])
    # It is sharp: there is content up to the highest frequencies.
    assert abs(fine[96]).mean() > 2e-4 * abs(fine[0, 0])


def test_harm_to_small_fields_of_view_lowers_the_score_of_mri(mri_folder):
    path = mri_folder / "validation.safetensors"
    heads = load_slices(path)["slice"]
    save_slices({"slice": heads, "limb": [heads[0][:, :70].astype(np.float32)]}, path)

    class HarmsSmallOnes(torch.nn.Module):
        def forward(self, image):
            return image if image.shape[-1] > 70 else 0.5 * image

    score = mri_sr.watch(mri_folder)
    assert score(torch.nn.Identity())["score"] == pytest.approx(0, abs=0.1)
    assert score(HarmsSmallOnes())["score"] < -0.5


def test_every_recipe_serves_a_task_and_starts_from_weights_that_are_there():
    known = {None, *shipped_checkpoints(), *earlier_checkpoints(), *RECIPES}
    for stage, recipe in RECIPES.items():
        assert recipe.task in TASKS
        assert stage == recipe.stage
        assert recipe.start_from in known
    assert {recipe.task for recipe in RECIPES.values()} == set(TASKS)


def test_weights_that_miss_what_they_must_reach_say_by_how_much():
    row = {"contrast": "T1 with contrast agent", "factor": 2.0, "noise": 0.0, "psnr_before": 30.0}
    row |= {"worst_over_filter": 0.1}
    good = {**row, "psnr_after": 31.2, "worst_gain": 0.1}
    assert mri_sr.falls_short([good]) == ""
    missed = mri_sr.falls_short([{**good, "psnr_after": 30.4}, {**good, "contrast": "inverted", "worst_gain": -0.2}])
    assert "mean gain in dB at x2, T1 with contrast agent is 0.4, not 1" in missed
    assert "worst slice at x2, inverted is -0.2, not 0" in missed
    # What is no number reaches nothing.
    assert "is nan, not 0" in mri_sr.falls_short([{**good, "worst_gain": float("nan")}])
    noisy = {**good, "noise": 0.01, "worst_over_filter": -0.5}
    assert "filter in dB at x2, T1 with contrast agent with 1% of noise is -0.5, not 0" in mri_sr.falls_short([noisy])
    # A contrast that is not T1 must only not become worse; a noisy row is only compared with the filter.
    assert mri_sr.falls_short([{**good, "contrast": "inverted", "psnr_after": 30.1}, missed_row(row)]) == ""

    lesions = {
        "uptake": "real",
        "dose_reduction": 24.0,
        "psnr_before": 27.0,
        "psnr_after": 33.0,
        "lesion_mean_after": 0.86,
    }
    assert "lesions, as a share, at 1/24 of the counts of real uptake is 0.86, not 0.9" in pet_low_count.falls_short(
        [lesions]
    )
    assert pet_low_count.falls_short([{**lesions, "lesion_mean_after": 1.04}]) == ""

    biased = {"noise_hu": 35.0, "worst_gain": 5.0, "mean_residual_hu": -1.4}
    assert "mean residual in HU" in ct_denoise.falls_short([biased])
    assert ct_denoise.falls_short([{**biased, "mean_residual_hu": 0.4}]) == ""
    assert all_in_one.falls_short([{"task": "ct-denoise", **biased}]).startswith("ct-denoise: ")


def missed_row(row):
    return {**row, "noise": 0.01, "psnr_after": 20.0, "worst_gain": -10.0}
