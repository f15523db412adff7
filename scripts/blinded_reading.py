"""Would a reader with nothing but the verdict notice that something was erased? A blinded reading by script.

    .venv/bin/python scripts/blinded_reading.py [--json benchmarks/blinded_reading.json]

Scans are slices of the full-dose CT sample with noise of a random kernel and strength, three to a scan. Of each there
are two results: an ideal one, in which a random part of the noise is left and nothing else is changed, and one in whose
middle slice a lesion of 4 to 9 pixels and 1.5 to 3 noise deviations was erased with the noise. The reader gets input
and result in shuffled order, and calls a scan erased if the verdict on a slice finds structure for certain, or comes
within a tenth of that. The truth is compared afterwards.

The same script reports the calibration of the verdict: how often it is green on noise alone, and how often it changes
if a structure of 3 pixels and twice the noise was erased.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_restore_rwkv import read_scan
from napari_restore_rwkv.image_quality.contrast import disc
from napari_restore_rwkv.reliability.removed import CERTAIN, Removed, Verdict, judge_removed
from napari_restore_rwkv.scans.noise.smoothing import box_mean
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.simulate.ct_kernels import random_kernel
from napari_restore_rwkv.simulate.ct_noise import noise_realisation, noise_shape

SCANS, TRIALS, SLICES = 20, 100, (3, 9, 16)
CROP, MARGIN = slice(128, 384), 40
NOISE_HU, LEFT = (8.0, 80.0), (0.0, 0.5)
LESION_PX, LESION_NOISE = (4.0, 9.0), (1.5, 3.0)
TISSUE_HU, NEARLY = -200.0, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Input and result of a scan, each (Z, Y, X), and whether a lesion was erased from it."""

    before: np.ndarray
    after: np.ndarray
    erased: bool


def main() -> None:
    """Read, calibrate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--trials", type=int, default=TRIALS, help="for the calibration; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"seed": arguments.seed, "reading": reading(arguments.scans, arguments.seed)}
    if arguments.trials:
        figures["calibration"] = calibration(arguments.trials, arguments.seed)
    print(json.dumps(figures, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def reading(scans: int, seed: int) -> dict[str, Any]:
    """Have every scan read with and without an erased lesion; return how many were called right."""
    rng = np.random.default_rng(seed)
    cases = [case for number in range(scans) for case in _pair(np.random.default_rng((seed, number)))]
    rng.shuffle(cases)  # type: ignore[arg-type]
    called = [calls_erased(case.before, case.after) for case in cases]
    found = sum(call for call, case in zip(called, cases, strict=True) if case.erased)
    alarms = sum(call for call, case in zip(called, cases, strict=True) if not case.erased)
    return {"scans": scans, "slices_each": len(SLICES), "erased_found": found, "false_alarms": alarms}


def calls_erased(before: np.ndarray, after: np.ndarray) -> bool:
    """Read one scan: whether its verdicts say that more than noise was removed."""
    judged = [judge_removed(one, other) for one, other in zip(before, after, strict=True)]
    if any(one.verdict is Verdict.STRUCTURE for one in judged):
        return True
    # Among many slices of pure noise one is occasionally doubtful, so a doubt is not enough.
    return max(one.highest for one in judged) > NEARLY * CERTAIN


def calibration(trials: int, seed: int) -> dict[str, Any]:
    """Return how often the verdict is green on noise, and changes if 3 px of 2 deviations were erased."""
    pieces = _pieces(trials, np.random.default_rng((seed, trials)))
    pure = [judge_removed(clean + noise, clean).verdict for clean, noise in pieces]
    rng = np.random.default_rng((seed, trials, 1))
    turned = sum(_turns(clean, noise, rng) for clean, noise in pieces)
    return {
        "trials": trials,
        "green_on_noise": pure.count(Verdict.NOISE),
        "structure_on_noise": pure.count(Verdict.STRUCTURE),
        "turned_on_erased_3_px_2_deviations": turned,
    }


def _turns(clean: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> bool:
    row, column = _place_in_tissue(clean, rng)
    sign = float(rng.choice((-1, 1)))
    structure = sign * 2 * _local_noise(noise, row, column) * disc(_shape(clean), (row, column), 3.0)
    judged = judge_removed(clean + structure + noise, clean)
    return judged.verdict is not Verdict.NOISE and _is_near(judged, row, column)


def _is_near(judged: Removed, row: int, column: int) -> bool:
    return any(abs(y - row) < 4 and abs(x - column) < 4 for y, x, _ in judged.places)


def _pair(rng: np.random.Generator) -> tuple[Case, Case]:
    """The same scan with a lesion kept, and with the lesion erased."""
    pieces = _pieces(len(SLICES), rng, same_noise=True)
    clean, noise = (np.stack(parts) for parts in zip(*pieces, strict=True))
    left = rng.uniform(*LEFT)
    middle = len(SLICES) // 2
    row, column = _place_in_tissue(clean[middle], rng)
    size, contrast = rng.uniform(*LESION_PX), rng.choice((-1, 1)) * rng.uniform(*LESION_NOISE)
    lesion = np.zeros_like(clean)
    lesion[middle] = (
        contrast * _local_noise(noise[middle], row, column) * disc(_shape(clean[middle]), (row, column), size)
    )
    before = clean + lesion + noise
    return Case(before, clean + lesion + left * noise, False), Case(before, clean + left * noise, True)


def _pieces(count: int, rng: np.random.Generator, same_noise: bool = False) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clean pieces of slices, 256 x 256, and noise for each; of one kernel and strength if they are one scan."""
    scan = read_scan(sample_path("ct_abdomen_dicom"))
    kernel, strength = random_kernel(rng), rng.uniform(*NOISE_HU)
    pieces = []
    for number in range(count):
        if not same_noise:
            kernel, strength = random_kernel(rng), rng.uniform(*NOISE_HU)
        clean = np.asarray(scan.voxels[SLICES[number % len(SLICES)]], np.float32)
        shape = noise_shape(clean, scan.spacing_mm[1]).crop(0.25, 0.25, 0.5, 0.5)
        noise = noise_realisation(shape, (256, 256), scan.spacing_mm[1], kernel, strength, rng)
        pieces.append((clean[CROP, CROP], noise))
    return pieces


def _place_in_tissue(clean: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    inner = np.argwhere(box_mean(clean)[MARGIN:-MARGIN, MARGIN:-MARGIN] > TISSUE_HU) + MARGIN
    row, column = inner[rng.integers(len(inner))]
    return int(row), int(column)


def _local_noise(noise: np.ndarray, row: int, column: int) -> float:
    return float(noise[row - 12 : row + 13, column - 12 : column + 13].std())


def _shape(image: np.ndarray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


if __name__ == "__main__":
    main()
