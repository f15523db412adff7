"""How MR weights are judged: gain over zero-filling, sharpness of edges and bars, contrast of faint discs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..metrics import psnr
from .contrast import contrast_kept
from .methods import INPUT, Images, Work, judged, methods_for, outputs, tuned
from .mr_phantoms import BARS, BRIGHTNESS, SIDE, acquired, spectrum_of
from .sharpness import edge_transfer
from .verdict import Curves, Line, Qualification

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

    from ..progress import Progress

TASK = "mri-sr"
# Loss of resolution, and noise as a fraction of the brightness.
QUICK = ((2.0, 0.01), (4.0, 0.01))
FULL = tuple((factor, noise) for factor in (2.0, 3.0, 4.0) for noise in (0.0, 0.01, 0.03))
_GAINS = {2.0: 1.0, 4.0: 1.2}
_QUICK_SLICES, _FULL_SLICES = 3, 8


def qualify_mr(
    network: nn.Module | None, weights: str, *, quick: bool, seed: int
) -> Generator[Progress, None, Qualification]:
    """Judge a network for MR; see `qualify`."""
    conditions, slices = (QUICK, _QUICK_SLICES) if quick else (FULL, _FULL_SLICES)
    work = Work(len(conditions) * (2 if network is None else 3) * 2 * slices)
    lines: list[Line] = []
    curves: list[Curves] = []
    pictures: dict[str, np.ndarray] = {}
    sharp = acquired(spectrum_of("head", "bars"))
    for number, (factor, noise) in enumerate(conditions):
        where = f"x{factor:g}, noise {noise:.0%}"
        rng = np.random.default_rng((seed, number))
        sigma, count = noise * BRIGHTNESS, slices if noise else 1
        tuning = acquired(spectrum_of("head", "bars"), factor, sigma, rng)
        methods = methods_for(TASK, network, tuned(TASK, _images(tuning[np.newaxis]), sharp))
        # The same noise with and without the discs.
        state = rng.bit_generator.state
        plain = np.stack([acquired(spectrum_of("head", "bars"), factor, sigma, rng) for _ in range(count)])
        rng.bit_generator.state = state
        faint = np.stack([acquired(spectrum_of("head", "bars", "faint"), factor, sigma, rng) for _ in range(count)])
        without = yield from outputs(methods, _images(plain), work, where)
        with_discs = yield from outputs(methods, _images(faint), work, f"faint discs, {where}")
        lines += _lines(without, with_discs, sharp, factor, where)
        if number == 0:
            curves = [_transfers(without, where)]
            pictures = {name: images[0] for name, images in without.items()}
    window = (0.0, BRIGHTNESS)
    return Qualification(TASK, weights, judged(methods), quick, tuple(lines), tuple(curves), pictures, window)


def _lines(
    without: dict[str, np.ndarray], with_discs: dict[str, np.ndarray], sharp: np.ndarray, factor: float, where: str
) -> list[Line]:
    scores = {name: [psnr(one, sharp) for one in images] for name, images in without.items()}
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    worst = {name: float(np.min(np.subtract(values, scores[INPUT]))) for name, values in scores.items()}
    probe = acquired(spectrum_of("faint"), factor)
    kept = {
        name: float(np.mean([contrast_kept(w, o, probe) for w, o in zip(with_discs[name], images, strict=True)]))
        for name, images in without.items()
    }
    flat = _flat_region()
    bias = {name: float((images[:, flat].mean() - sharp[flat].mean()) / BRIGHTNESS) for name, images in without.items()}
    half = {name: edge_transfer(images.mean(axis=0), *_rod()).at(0.5) for name, images in without.items()}
    lines = [
        Line("PSNR", where, mean, mean[INPUT] + _GAINS.get(factor, 0.0), unit="dB"),
        Line("lowest gain of a slice", where, worst, 0.0, unit="dB"),
        Line("contrast kept, 3 % and 6 % discs", where, kept, 0.9, 1.1),
        Line("TTF 50 %, to input's", where, {name: value / half[INPUT] for name, value in half.items()}, 1.0),
        Line("bias in flat tissue, of brightness", where, bias, -0.01, 0.01),
    ]
    for group, width in enumerate(BARS):
        seen = {name: _modulation(images.mean(axis=0), group) for name, images in without.items()}
        truth = _modulation(sharp, group)
        lines.append(Line(f"modulation of {width:g} px bars, to full", where, {n: v / truth for n, v in seen.items()}))
    return lines


def _modulation(image: np.ndarray, group: int) -> float:
    """Amplitude of a group of bars at their period, by the Fourier coefficient across them, in units of the image."""
    width = BARS[group]
    centre = SIDE / 2 + (-0.22 + 0.11 * group) * SIDE
    rows = slice(round(SIDE * (0.5 + 0.12) - 3), round(SIDE * (0.5 + 0.12) + 4))
    x = np.arange(SIDE)
    # Three whole periods, weighted by how their ends are cut.
    weight = np.clip(3 * width - np.abs(x - centre) + 0.5, 0, 1)
    profile = image[rows].mean(axis=0).astype(np.float64)
    profile = profile - np.average(profile, weights=weight)
    return float(abs((profile * weight * np.exp(-1j * np.pi * x / width)).sum()) / weight.sum())


def _rod() -> tuple[tuple[float, float], float, float]:
    """Centre, radius and reach of the rod, in pixels."""
    return (SIDE * 0.75, SIDE * 0.5), SIDE * 0.0729, 8.0


def _flat_region() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    return (np.abs(y + 0.1) < 0.04) & (np.abs(x) < 0.02)


def _transfers(results: dict[str, np.ndarray], where: str) -> Curves:
    found = {name: edge_transfer(images.mean(axis=0), *_rod()) for name, images in results.items()}
    drawn = {name: (one.frequencies, one.values) for name, one in found.items()}
    return Curves(f"Transfer at the rod, {where}", "cycles per pixel", "TTF", drawn)


def _images(values: np.ndarray) -> Images:
    return Images(values, "MR", "", 1.0)
