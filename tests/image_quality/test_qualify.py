"""Networks of known effect, judged: the identity, a blur, and the faulty."""

import json

import numpy as np
import pytest
import torch

from napari_restore_rwkv.errors import CheckpointError, ScanError
from napari_restore_rwkv.image_quality import ct, ct_phantoms, methods, mr, pet
from napari_restore_rwkv.image_quality.methods import DEFAULT, INPUT, JUDGED, TUNED
from napari_restore_rwkv.image_quality.noise_spectrum import noise_spectrum
from napari_restore_rwkv.image_quality.qualify import qualify
from napari_restore_rwkv.network.restorer import Card, Restorer
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.pet import gaussian

pytestmark = pytest.mark.slow


class Blur(Restorer):
    """A Gaussian with a full width at half maximum in pixels; 0 is the identity."""

    def __init__(self, modality, width=0.0):
        super().__init__()
        self.width = width
        self.card = Card(title="blur", task="", modality=modality)

    def forward(self, image):
        return gaussian(image[:, 0], self.width)[:, None] if self.width else image.clone()


class Broken(Blur):
    def forward(self, image):
        return image * float("nan")


@pytest.fixture(autouse=True)
def few_slices(monkeypatch):
    """Sizes that suffice for a clear outcome within seconds, and a single strength of the filter."""
    monkeypatch.setattr(ct, "QUICK", (ct.USUAL,))
    monkeypatch.setattr(ct, "_QUICK_SLICES", 2)
    monkeypatch.setattr(ct, "_ROD_SLICES", 2)
    monkeypatch.setattr(ct, "_ANATOMY_SLICES", 1)
    monkeypatch.setattr(ct, "_CHANNELS", 3)
    monkeypatch.setattr(mr, "_QUICK_SLICES", 1)
    monkeypatch.setattr(pet, "_QUICK_SLICES", 1)
    monkeypatch.setattr(pet, "QUICK", (pet.Setting(12),))
    monkeypatch.setattr(methods, "_TRIED", (1.0,))


def noting(steps, said):
    """The same generator; what it yields is kept."""
    while True:
        try:
            said.append(next(steps))
        except StopIteration as end:
            return end.value
        yield said[-1]


def only_what_is_judged(monkeypatch, modality):
    """The classical filter takes most of the time: the input takes its place."""
    monkeypatch.setattr(modality, "tuned", lambda *_: None)
    monkeypatch.setattr(modality, "methods_for", lambda task, network, _: {INPUT: None, TUNED: None, JUDGED: network})


def values_of(found, measure):
    [line] = [line for line in found.lines if line.measure == measure]
    return line


def test_the_identity_keeps_everything_of_ct_and_a_blur_does_not():
    identity = finish(qualify(Blur("CT"), quick=True))
    for line in identity.lines:
        assert line.values[JUDGED] == pytest.approx(line.values[INPUT], rel=1e-3, abs=1e-2)
    kept = values_of(identity, "contrast kept, 5 HU, 11 px")
    assert kept.values[JUDGED] == pytest.approx(1, abs=1e-3)
    assert kept.passed(JUDGED)
    assert values_of(identity, "noise, to input's").passed(JUDGED) is False
    # Non-local means is known to lose what is faint.
    assert kept.values[DEFAULT] < 0.8
    assert not kept.passed(DEFAULT)
    assert set(kept.values) == {INPUT, DEFAULT, TUNED, JUDGED}


def test_a_blur_of_ct_misses_the_expected_limits():
    found = finish(qualify(Blur("CT", 4.0), quick=True))
    assert values_of(found, "noise, to input's").passed(JUDGED)
    for measure in ("mean NPS frequency, to input's", "contrast kept, 14 HU, 4 px", "TTF 50 %, +340 HU, to clean"):
        assert values_of(found, measure).passed(JUDGED) is False
    assert found.judged == JUDGED
    assert any("14 HU, 4 px" in line.measure for line in found.misses)


class Faulty(Blur):
    """Adds a tenth, doubles, goes below zero, shades across, or keeps the coarsest and the finest detail only."""

    def __init__(self, fault, modality="CT"):
        super().__init__(modality)
        self.fault = fault

    def forward(self, image):
        if self.fault == "offset":
            return image + 0.1
        if self.fault == "doubled":
            return 2 * image
        if self.fault == "below zero":
            return image - 1e-3
        if self.fault == "shading":
            return image + torch.linspace(-0.1, 0.1, image.shape[3])
        fine = image[:, 0]
        for _ in range(4):
            fine = fine - gaussian(fine, 1.2)
        return (gaussian(image[:, 0], 6.0) + 4 * fine)[:, None]


def test_every_limit_of_ct_is_missed_by_a_network_that_violates_it(monkeypatch):
    only_what_is_judged(monkeypatch, ct)
    networks = [Blur("CT"), Blur("CT", 40.0), *map(Faulty, ("offset", "shading", "detail"))]
    limited, missed = limits_and_misses(networks)
    assert limited == set.union(*missed)
    # Each by the one that it was made for, not by all of them.
    assert "bias in water" in missed[2] - missed[0]
    assert "uniformity of water" in missed[3] - missed[0] - missed[2]
    assert "noise share above 0.38/px, to input's" in missed[4] - missed[0]


def limits_and_misses(networks):
    """Names of the measures that have limits, and of those that each network misses."""
    found = [finish(qualify(network, quick=True)) for network in networks]
    limited = {line.measure for line in found[0].lines if line.passed(JUDGED) is not None}
    return limited, [{line.measure for line in one.misses} for one in found]


def test_every_limit_of_mr_is_missed_by_a_network_that_violates_it(monkeypatch):
    only_what_is_judged(monkeypatch, mr)
    networks = [Blur("MR"), Blur("MR", 3.0), Faulty("offset", "MR"), Faulty("doubled", "MR")]
    limited, (identity, blurred, offset, doubled) = limits_and_misses(networks)
    assert limited == {
        "PSNR",
        "lowest gain of a slice",
        "contrast kept, 3 % and 6 % discs",
        "TTF 50 %, to input's",
        "bias in flat tissue, of brightness",
    }
    assert identity == {"PSNR"}
    assert {"lowest gain of a slice", "TTF 50 %, to input's"} <= blurred
    assert "bias in flat tissue, of brightness" in offset - blurred
    assert "contrast kept, 3 % and 6 % discs" in doubled - blurred - offset


def test_every_limit_of_pet_is_missed_by_a_network_that_violates_it(monkeypatch):
    only_what_is_judged(monkeypatch, pet)
    # Counts enough that the means of the input are right.
    monkeypatch.setattr(pet, "QUICK", (pet.Setting(4),))
    monkeypatch.setattr(pet, "_QUICK_SLICES", 3)
    # The product lets nothing below zero; what would happen without that is for this test alone.
    monkeypatch.setattr(methods, "restored", lambda images, network: bare(images, network))
    networks = [Blur("PET"), Blur("PET", 8.0), Faulty("below zero", "PET")]
    limited, (identity, blurred, below_zero) = limits_and_misses(networks)
    assert limited == {
        "PSNR, to all counts",
        "share of pixels below zero",
        *(f"hot mean, {diameter} mm, to all counts" for diameter in (17, 22, 28, 37)),
    }
    assert identity == {"PSNR, to all counts"}
    assert {f"hot mean, {diameter} mm, to all counts" for diameter in (17, 22, 28, 37)} <= blurred
    assert below_zero - identity - blurred == {"share of pixels below zero"}


def bare(images, network):
    """Put slices through a network without anything that the product does around it."""
    for values in np.asarray(images.values, np.float32):
        yield network(torch.from_numpy(values[None, None]))[0, 0].numpy()


def test_conditions_that_the_fast_noise_did_not_make_are_measured_as_well(monkeypatch):
    monkeypatch.setattr(ct, "QUICK", (ct.PROJECTED[0], ct.FIELDS_OF_VIEW[0]))
    # Instead of the classical filter, which takes most of the time.
    same = (DEFAULT, TUNED, JUDGED)
    monkeypatch.setattr(ct, "tuned", lambda *_: None)
    monkeypatch.setattr(ct, "methods_for", lambda _, network, __: {INPUT: None, **dict.fromkeys(same, network)})
    said = []
    found = finish(noting(qualify(Blur("CT"), quick=True), said))
    assert said[-1].done == said[-1].total
    assert {line.condition for line in found.lines} == {
        "22 HU, standard kernel, projected",
        "22 HU, standard kernel, 0.6 mm pixels",
    }
    for line in found.lines:
        assert line.values[JUDGED] == pytest.approx(line.values[INPUT], rel=1e-3, abs=1e-2)


def test_projected_noise_is_as_strong_and_as_grainy_as_fast_noise():
    water, spectra = ct_phantoms.water(), []
    for scanner in (ct.USUAL, ct.PROJECTED[0]):
        noise = ct_phantoms.realisations(water, scanner, 3, np.random.default_rng(0))
        assert noise[:, 90:166, 90:166].std() == pytest.approx(22, rel=0.05)
        spectra.append(noise_spectrum(noise[:, 96:160, 96:160]))
    assert spectra[1].mean_frequency == pytest.approx(spectra[0].mean_frequency, rel=0.1)
    # Larger pixels see less of what a kernel lets through.
    coarse = ct_phantoms.realisations(water, ct.FIELDS_OF_VIEW[1], 3, np.random.default_rng(0))
    assert noise_spectrum(coarse[:, 96:160, 96:160]).mean_frequency > 1.1 * spectra[0].mean_frequency


def test_the_identity_adds_nothing_to_mr_and_a_blur_harms_it():
    identity, blurred = (finish(qualify(Blur("MR", width), quick=True)) for width in (0.0, 3.0))
    for line in identity.lines:
        assert line.values[JUDGED] == pytest.approx(line.values[INPUT], rel=1e-3, abs=1e-3)
    assert any(line.measure == "PSNR" for line in identity.misses)
    sharp = [line for line in blurred.lines if line.measure == "TTF 50 %, to input's"]
    assert all(line.passed(JUDGED) is False for line in sharp)


def test_a_blur_of_pet_loses_hot_spheres_and_the_identity_none():
    identity, blurred = (finish(qualify(Blur("PET", width), quick=True)) for width in (0.0, 6.0))
    hot = values_of(identity, "hot mean, 17 mm, to all counts")
    assert hot.values[JUDGED] == pytest.approx(hot.values[INPUT], rel=1e-3)
    assert values_of(blurred, "hot mean, 17 mm, to all counts").passed(JUDGED) is False
    largest = [values_of(found, "SUVmax, 17 mm").values[JUDGED] for found in (blurred, identity)]
    assert largest[0] < 0.9 * largest[1]
    assert values_of(identity, "share of pixels below zero").passed(JUDGED)


def test_the_classical_filter_is_judged_where_there_is_no_network(monkeypatch):
    monkeypatch.setattr(mr, "QUICK", mr.QUICK[:1])
    found = finish(qualify(None, "MR", quick=True))
    assert found.judged == DEFAULT
    assert JUDGED not in found.lines[0].values
    assert "judged: classical" in found.table()


def test_the_table_is_plain_json_with_the_passed_limits(monkeypatch):
    monkeypatch.setattr(mr, "QUICK", mr.QUICK[:1])
    found = finish(qualify(Blur("MR"), quick=True))
    stored = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [line["passed"] for line in stored["lines"]] == [line.passed(JUDGED) for line in found.lines]
    text = found.table()
    assert "MISS" in text
    assert f"of {sum(line.passed(JUDGED) is not None for line in found.lines)} limits are kept." in text


def test_several_seeds_give_means_and_their_spread():
    one, other = (finish(qualify(Blur("PET"), quick=True, seed=seed)) for seed in (3, 4))
    steps = qualify(Blur("PET"), quick=True, seed=3, seeds=2)
    said = []
    both = finish(noting(steps, said))
    assert [step.done for step in said] == list(range(1, said[-1].total + 1))
    for line, first, second in zip(both.lines, one.lines, other.lines, strict=True):
        for name, value in line.values.items():
            assert value == pytest.approx((first.values[name] + second.values[name]) / 2, nan_ok=True)
            assert line.spread[name] == pytest.approx(
                abs(first.values[name] - second.values[name]) / 2**0.5, nan_ok=True
            )
    assert " ± " in both.table()
    assert "spread" in both.as_dict()["lines"][0]
    assert "spread" not in one.as_dict()["lines"][0]
    with pytest.raises(ScanError, match="At least one seed is needed for the noise; got 0"):
        qualify(Blur("PET"), seeds=0)


def test_progress_counts_up_to_its_total(monkeypatch):
    monkeypatch.setattr(mr, "QUICK", mr.QUICK[:1])
    steps = list(qualify(Blur("MR"), quick=True))
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].total == len(steps)


def test_a_network_that_returns_no_numbers_is_refused():
    with pytest.raises(CheckpointError, match="returned NaN or infinite values"):
        finish(qualify(Broken("MR"), quick=True))


def test_a_modality_without_a_phantom_is_refused():
    with pytest.raises(ScanError, match="There are phantoms for CT, MR and PET, but not for US"):
        qualify(None, "US")
    with pytest.raises(ScanError, match="not for a network of unknown modality"):
        qualify(Blur(None))
    with pytest.raises(CheckpointError, match="made for CT, so they cannot be judged for MR"):
        qualify(Blur("CT"), "MR")


def test_a_background_that_is_too_small_or_no_ct_is_refused():
    small = Scan(np.zeros((1, 63, 80), np.float32), modality="CT")
    with pytest.raises(ScanError, match="slices of 63 x 80 pixels; 64 along each side are needed"):
        qualify(Blur("CT"), background=small)
    with pytest.raises(ScanError, match="must be a CT scan in HU; got MR"):
        qualify(Blur("CT"), background=Scan(np.zeros((1, 80, 80), np.float32), modality="MR"))
    with pytest.raises(ScanError, match="A background is only for CT, but MR is judged"):
        qualify(Blur("MR"), background=small)


@pytest.mark.parametrize("name", ["page.pdf", "page.png", "page.json"])
def test_no_file_is_replaced_by_a_report_unasked(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    code, _, err = run("qualify", "--task", "ct-denoise", "--report", tmp_path / "page.pdf")
    assert code == 1
    assert f"{name} already exists: give another name, or --overwrite" in err
    assert (tmp_path / name).read_bytes() == b"mine"
