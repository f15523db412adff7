"""How CT weights are judged: faint discs, noise and values in water, edges of rods, and discs in anatomy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..metrics import psnr
from . import ct_phantoms as phantoms
from .contrast import contrast_kept, disc, values_in
from .ct_phantoms import FAINT, RODS_HU, Scanner
from .methods import INPUT, TUNED, Images, Work, judged, methods_for, outputs, tuned
from .noise_spectrum import noise_spectrum
from .observer import Detectability, detectability, laguerre_gauss
from .sharpness import edge_transfer
from .verdict import Curves, Line, Qualification

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ..progress import Progress

    Results = dict[str, np.ndarray]

TASK, UNIT = "ct-denoise", "HU"
WINDOW_HU = (-160.0, 240.0)
USUAL = Scanner(22, "standard")
# Weights are trained on the fast noise; projected noise comes from another simulator.
PROJECTED = (replace(USUAL, projected=True), Scanner(45, "sharp", projected=True))
FIELDS_OF_VIEW = tuple(replace(USUAL, pixel_mm=pixel_mm) for pixel_mm in (0.6, 1.2))
QUICK = (USUAL, PROJECTED[0])
FULL = (
    *(Scanner(noise, kernel) for kernel in ("smooth", "standard", "sharp") for noise in (10, 22, 35, 70)),
    *PROJECTED,
    *FIELDS_OF_VIEW,
)
# What must be kept of the discs in `FAINT`, at this noise and below.
_MUST_KEEP, _UP_TO_HU = (None, 0.85, None, 0.70), 22.0
_HIGH, _REGION, _CHANNELS = 0.38, 64, 6
_ROI = 33
# This many slices of faint discs make some 50 and 200 pairs of each.
_QUICK_SLICES, _FULL_SLICES = 8, 28
_ROD_SLICES, _ANATOMY_SLICES = 6, 3
# Projecting takes longer.
_PROJECTED_SLICES = 8


def qualify_ct(
    network: nn.Module | None, weights: str, *, quick: bool, seed: int, background: tuple[np.ndarray, float]
) -> Generator[Progress, None, Qualification]:
    """Judge a network for CT; see `qualify`. The background is a square slice in HU with the side of its pixels."""
    scanners = QUICK if quick else FULL
    networks = 2 if network is None else 3
    work = Work(sum(networks * (2 * _slices(s, quick) + _ROD_SLICES + 2 * _ANATOMY_SLICES) for s in scanners))
    lines: list[Line] = []
    curves: list[Curves] = []
    pictures: Results = {}
    for number, scanner in enumerate(scanners):
        rng = np.random.default_rng((seed, number))
        rods, centres = phantoms.rods(scanner)
        noise = phantoms.realisations(rods, scanner, _ROD_SLICES, rng)
        # The filter is tuned on the same anatomy, with different noise than is measured.
        body, pixel_mm = background
        other = phantoms.realisations(body, scanner, 1, rng, pixel_mm)
        best = tuned(TASK, _images(body + other, pixel_mm), body)
        methods = methods_for(TASK, network, best)
        faint, spectra = yield from _faint(methods, scanner, _slices(scanner, quick), rng, work)
        results = yield from outputs(methods, _images(rods + noise, scanner.pixel_mm), work, f"rods, {scanner}")
        sharp, transfers = _sharpness(results, rods, centres, scanner)
        anatomy, shown = yield from _anatomy(methods, scanner, background, rng, work)
        lines += [*faint, *sharp, *anatomy]
        if scanner == USUAL:
            curves, pictures = [spectra, transfers], shown
    return Qualification(TASK, weights, judged(methods), quick, tuple(lines), tuple(curves), pictures, WINDOW_HU)


def _slices(scanner: Scanner, quick: bool) -> int:
    """Of faint discs."""
    if quick:
        return _QUICK_SLICES
    return _PROJECTED_SLICES if scanner.projected else _FULL_SLICES


def _images(values: np.ndarray, pixel_mm: float) -> Images:
    return Images(values, "CT", UNIT, pixel_mm)


def _faint(
    methods: dict[str, nn.Module | None], scanner: Scanner, slices: int, rng: np.random.Generator, work: Work
) -> Generator[Progress, None, tuple[list[Line], Curves]]:
    """Contrast and detectability of faint discs, and noise and values of the same water without them."""
    water = phantoms.water()
    absent = water + phantoms.realisations(water, scanner, slices, rng)
    discs = [phantoms.faint_discs(turn) for turn in range(slices)]
    present = absent + np.stack([sum(probe for *_, probe in ones) for ones in discs])
    without = yield from outputs(methods, _images(absent, scanner.pixel_mm), work, f"water, {scanner}")
    with_discs = yield from outputs(methods, _images(present, scanner.pixel_mm), work, f"faint discs, {scanner}")
    lines = _values(without, scanner)
    for kind, (contrast, diameter) in enumerate(FAINT):
        chosen = [(turn, place, probe) for turn, ones in enumerate(discs) for k, place, probe in ones if k == kind]
        name = f"{contrast:g} HU, {diameter:g} px"
        kept = {
            method: float(np.mean([contrast_kept(with_discs[method][t], images[t], p) for t, _, p in chosen]))
            for method, images in without.items()
        }
        least = _MUST_KEEP[kind] if scanner.noise_hu <= _UP_TO_HU else None
        lines.append(Line(f"contrast kept, {name}", str(scanner), kept, least))
        seen = {
            method: _seen(with_discs[method], without[method], [(t, place) for t, place, _ in chosen], diameter)
            for method in methods
        }
        areas = {method: one.auc for method, one in seen.items()}
        lines.append(Line(f"detectability (AUC), {name}", str(scanner), areas, seen[INPUT].low))
    spectra = {method: noise_spectrum(_centre(images)).radial() for method, images in without.items()}
    title = f"Noise power spectrum, {scanner}"
    return lines, Curves(title, "cycles per pixel", "HU² px²", spectra)


def _seen(
    present: np.ndarray, absent: np.ndarray, chosen: list[tuple[int, tuple[int, int]]], diameter: float
) -> Detectability:
    """An observer's result on the regions around discs, whose slices are consecutive."""
    half = _ROI // 2

    def regions(images: np.ndarray) -> np.ndarray:
        return np.stack([images[t, y - half : y + half + 1, x - half : x + half + 1] for t, (y, x) in chosen])

    channels = laguerre_gauss(_ROI, 1.5 * diameter, _CHANNELS)
    return detectability(regions(present), regions(absent), channels, internal_noise=1.0)


def _values(results: Results, scanner: Scanner) -> list[Line]:
    """Noise, its texture, and values in uniform water."""
    where, middle = str(scanner), phantoms.SIDE // 2
    spectra = {name: noise_spectrum(_centre(images)) for name, images in results.items()}
    own = spectra[INPUT]
    moves = ((0, 0), (-70, 0), (70, 0), (0, -70), (0, 70))
    regions = [disc((phantoms.SIDE, phantoms.SIDE), (middle + y, middle + x), 40) == 1 for y, x in moves]
    values = {name: values_in(images.mean(axis=0), regions, 0.0) for name, images in results.items()}

    strength = {name: (one.variance / own.variance) ** 0.5 for name, one in spectra.items()}
    frequency = {name: one.mean_frequency / own.mean_frequency for name, one in spectra.items()}
    high = {name: one.share_above(_HIGH) / max(own.share_above(_HIGH), 1e-3) for name, one in spectra.items()}
    bias = {name: one.bias for name, one in values.items()}
    least, most = (-1.0, 1.0) if scanner.noise_hu <= 70 else (None, None)
    uniformity = {name: one.uniformity for name, one in values.items()}
    return [
        Line("noise, to input's", where, strength, most=0.5),
        Line("mean NPS frequency, to input's", where, frequency, least=0.8),
        Line("noise share above 0.38/px, to input's", where, high, most=2.0),
        Line("bias in water", where, bias, least, most, UNIT),
        Line("uniformity of water", where, uniformity, most=4.0, unit=UNIT),
    ]


def _sharpness(
    results: Results, truth: np.ndarray, centres: dict[float, tuple[float, float]], scanner: Scanner
) -> tuple[list[Line], Curves]:
    """Frequencies at which the edges of rods have half of their modulation, and the error of the whole slice."""
    lines, drawn = [], {}
    for contrast in RODS_HU:
        where = (centres[contrast], phantoms.ROD_RADIUS, phantoms.ROD_REACH)
        clean = edge_transfer(truth, *where)
        found = {name: edge_transfer(images.mean(axis=0), *where) for name, images in results.items()}
        half = {name: one.at(0.5) / clean.at(0.5) for name, one in found.items()}
        least = 0.9 if abs(contrast) >= 100 else None
        lines.append(Line(f"TTF 50 %, {contrast:+g} HU, to clean", str(scanner), half, least))
        tenth = {name: one.at(0.1) / clean.at(0.1) for name, one in found.items()}
        lines.append(Line(f"TTF 10 %, {contrast:+g} HU, to clean", str(scanner), tenth))
        if contrast == 100:
            drawn = {name: (one.frequencies, one.values) for name, one in found.items()}
    error = {
        name: float(np.mean([psnr(one, truth, window=WINDOW_HU) for one in images])) for name, images in results.items()
    }
    # Non-local means excels on images that are flat except for edges, so it sets no limit here.
    lines.append(Line("PSNR, rods", str(scanner), error, unit="dB"))
    return lines, Curves(f"Transfer at +100 HU, {scanner}", "cycles per pixel", "TTF", drawn)


def _anatomy(
    methods: dict[str, nn.Module | None],
    scanner: Scanner,
    background: tuple[np.ndarray, float],
    rng: np.random.Generator,
    work: Work,
) -> Generator[Progress, None, tuple[list[Line], Results]]:
    """Error within the anatomy of a scan, and contrast kept for discs of 5 HU and 11 px, and of 14 HU and 4 px."""
    body, pixel_mm = background
    noisy = body + phantoms.realisations(body, scanner, _ANATOMY_SLICES, rng, pixel_mm)
    places = _soft_places(body)
    kinds = (FAINT[1], FAINT[3])
    probes = [
        [contrast * disc((body.shape[0], body.shape[1]), place, diameter) for place in places[number::2]]
        for number, (contrast, diameter) in enumerate(kinds)
    ]
    inserted = noisy + sum(sum(ones) for ones in probes)
    without = yield from outputs(methods, _images(noisy, pixel_mm), work, f"anatomy, {scanner}")
    with_discs = yield from outputs(methods, _images(inserted, pixel_mm), work, f"anatomy, {scanner}")
    error = {n: float(np.mean([psnr(one, body, window=WINDOW_HU) for one in images])) for n, images in without.items()}
    lines = [Line("PSNR, anatomy", str(scanner), error, error[TUNED] + 0.7, unit="dB")]
    for (contrast, diameter), ones in zip(kinds, probes, strict=True):
        kept = {name: _mean_kept(with_discs[name], images, ones) for name, images in without.items()}
        lines.append(Line(f"contrast kept in anatomy, {contrast:g} HU, {diameter:g} px", str(scanner), kept))
    return lines, {name: images[0] for name, images in without.items()}


def _mean_kept(with_discs: np.ndarray, without: np.ndarray, probes: list[np.ndarray]) -> float:
    pairs = list(zip(with_discs, without, strict=True))
    return float(np.mean([contrast_kept(one, other, probe) for one, other in pairs for probe in probes]))


def _soft_places(body: np.ndarray) -> list[tuple[int, int]]:
    """Return at most 16 places (y, x), 30 pixels apart, whose surroundings are soft tissue."""
    found = []
    for y in range(30, body.shape[0] - 30, 30):
        for x in range(30, body.shape[1] - 30, 30):
            around = body[y - 12 : y + 13, x - 12 : x + 13]
            if around.min() > -200 and around.max() < 300:
                found.append((y, x))
    return found[:16] if len(found) >= 2 else [(body.shape[0] // 2, body.shape[1] // 2), (40, 40)]


def _centre(images: np.ndarray) -> np.ndarray:
    start = (phantoms.SIDE - _REGION) // 2
    return images[:, start : start + _REGION, start : start + _REGION]
