"""How PET weights are judged: six hot spheres and a cold lung insert in a body, at decreasing counts.

The phantom is that of NEMA NU 2 in one slice: spheres are their central discs, 10 to 37 mm across, four times as hot as
the background, on a circle of 114 mm around an insert of lung, 50 mm wide. Slices are independent, so partial volume
along z is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..metrics import psnr
from ..simulate.activity import WATER_PER_MM
from ..simulate.pet import Acquisition, low_count
from .contrast import disc
from .methods import TUNED, Images, Work, judged, methods_for, outputs, tuned
from .uptake import background_variability, recovery, suv_max, suv_peak
from .verdict import Curves, Line, Qualification

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import nn

    from ..progress import Progress

    Measure = Callable[[np.ndarray], float]

TASK, UNIT = "pet-low-count", "SUV"
SPHERES_MM = (10, 13, 17, 22, 28, 37)
HOT, BACKGROUND, LUNG = 8.0, 2.0, 0.1
_FIELD_MM = 352.0
# From this sphere size on, hot means must be kept.
_LEAST_SPHERE_MM = 17


@dataclass(frozen=True, slots=True)
class Setting:
    """The reduction of the counts, and pixels and post filter in mm."""

    reduction: float
    pixel_mm: float = 4.0
    filter_mm: float = 5.0

    def __str__(self) -> str:
        share = "all counts" if self.reduction == 1 else f"1/{self.reduction:g} of the counts"
        return f"{share}, {self.pixel_mm:g} mm pixels, {self.filter_mm:g} mm filter"


QUICK = (Setting(4), Setting(12), Setting(24))
FULL = tuple(
    [Setting(reduction) for reduction in (1, 4, 12, 24)]
    + [Setting(reduction, 2.75, filter_mm) for reduction in (4, 12) for filter_mm in (2.0, 7.0)]
)
# With fewer, the mean of a 17 mm sphere in the input itself is off by 5 % at 1/24.
_QUICK_SLICES, _FULL_SLICES = 12, 24


def qualify_pet(
    network: nn.Module | None, weights: str, *, quick: bool, seed: int
) -> Generator[Progress, None, Qualification]:
    """Judge a network for PET; see `qualify`."""
    settings, slices = (QUICK, _QUICK_SLICES) if quick else (FULL, _FULL_SLICES)
    work = Work(len(settings) * (2 if network is None else 3) * slices)
    lines: list[Line] = []
    curves: list[Curves] = []
    pictures: dict[str, np.ndarray] = {}
    for number, setting in enumerate(settings):
        phantom = body(setting.pixel_mm)
        scanner = Acquisition(dose_reduction=setting.reduction, filter_mm=setting.filter_mm)
        pairs = [
            low_count(phantom.activity, setting.pixel_mm, scanner, seed=seed + 100 * number + i, attenuation=phantom.mu)
            for i in range(slices + 1)
        ]
        low, full = (np.stack([pair[which] for pair in pairs]) for which in (0, 1))
        best = tuned(TASK, Images(low[-1:], "PET", UNIT, setting.pixel_mm), full[-1])
        methods = methods_for(TASK, network, best)
        images = Images(low[:-1], "PET", UNIT, setting.pixel_mm)
        results = yield from outputs(methods, images, work, str(setting))
        lines += _lines(results, full[:-1], phantom, setting)
        if setting.reduction == 12 and not pictures:
            curves, pictures = [_recoveries(results, phantom, setting)], {name: one[0] for name, one in results.items()}
    return Qualification(TASK, weights, judged(methods), quick, tuple(lines), tuple(curves), pictures, (0.0, HOT))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """The phantom: activity in SUV and attenuation per mm, (N, N), and masks of its parts."""

    activity: np.ndarray
    mu: np.ndarray
    spheres: dict[int, np.ndarray]
    lung: np.ndarray
    background: list[np.ndarray]


def body(pixel_mm: float) -> Body:
    """Return the phantom on square pixels of this side."""
    side = 2 * round(_FIELD_MM / pixel_mm / 2)
    shape, middle = (side, side), (side - 1) / 2
    y, x = (np.mgrid[:side, :side] - middle) * pixel_mm
    inside = np.clip((1 - np.hypot(y / 110, x / 150)) * 110 / pixel_mm + 0.5, 0, 1)
    activity, spheres = BACKGROUND * inside, {}

    def place(angle: float, radius_mm: float) -> tuple[float, float]:
        return middle - radius_mm * np.sin(angle) / pixel_mm, middle + radius_mm * np.cos(angle) / pixel_mm

    for number, diameter in enumerate(SPHERES_MM):
        centre = place(np.pi / 3 * number, 57.0)
        covered = disc(shape, centre, diameter / pixel_mm)
        activity += (HOT - BACKGROUND) * covered
        spheres[diameter] = covered > 0.5
    lung = disc(shape, (middle, middle), 50 / pixel_mm)
    activity += (LUNG - BACKGROUND) * lung
    # Twelve discs of 22 mm, away from all others.
    background = [
        disc(shape, (middle - 82 * np.sin(a) / pixel_mm, middle + 118 * np.cos(a) / pixel_mm), 22 / pixel_mm) > 0.5
        for a in np.pi * (np.arange(12) + 0.5) / 6
    ]
    return Body(activity, WATER_PER_MM * (inside - 0.7 * lung), spheres, lung > 0.99, background)


def _lines(results: dict[str, np.ndarray], full: np.ndarray, phantom: Body, setting: Setting) -> list[Line]:
    where, pixel_mm = str(setting), setting.pixel_mm
    means = {name: images.mean(axis=0) for name, images in results.items()}
    reference = full.mean(axis=0)
    low_dose = setting.reduction > 1

    def each(name: str, measure: Measure, most: float | None = None) -> Line:
        return Line(name, where, {method: measure(images) for method, images in results.items()}, most=most)

    score = {
        name: float(np.mean([psnr(one, truth) for one, truth in zip(images, full, strict=True)]))
        for name, images in results.items()
    }
    lines = [
        Line("PSNR, to all counts", where, score, score[TUNED] + 0.5 if low_dose else None, unit="dB"),
        each("share of pixels below zero", lambda images: float((images < 0).mean()), most=0.0),
        each(
            "background variability",
            lambda images: float(np.mean([background_variability(one, phantom.background) for one in images])),
        ),
        each("residual of lung insert", lambda images: recovery(images.mean(axis=0), phantom.lung, BACKGROUND)),
    ]
    for diameter, region in phantom.spheres.items():
        kept = {name: float(mean[region].mean() / reference[region].mean()) for name, mean in means.items()}
        limits = (0.95, 1.05) if diameter >= _LEAST_SPHERE_MM and low_dose else (None, None)
        lines.append(Line(f"hot mean, {diameter} mm, to all counts", where, kept, *limits))
    for diameter in (10, 17, 37):
        region = phantom.spheres[diameter]
        peak = {n: float(np.mean([suv_peak(one, region, pixel_mm) for one in r])) for n, r in results.items()}
        largest = {n: float(np.mean([suv_max(one, region) for one in r])) for n, r in results.items()}
        lines.append(Line(f"SUVpeak, {diameter} mm", where, peak, unit=UNIT))
        lines.append(Line(f"SUVmax, {diameter} mm", where, largest, unit=UNIT))
    return lines


def _recoveries(results: dict[str, np.ndarray], phantom: Body, setting: Setting) -> Curves:
    diameters = np.array(list(phantom.spheres), float)
    drawn = {
        name: (diameters, np.array([recovery(images.mean(axis=0), r, HOT) for r in phantom.spheres.values()]))
        for name, images in results.items()
    }
    return Curves(f"Recovery of hot spheres, {setting}", "diameter in mm", "recovery coefficient", drawn)
