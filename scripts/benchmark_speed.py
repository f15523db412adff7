"""Time the light network beside BM3D on the same noisy 256 x 256 slice, in turns.

    .venv/bin/python scripts/benchmark_speed.py [--threads N] [--repeats N] [--json FILE]

The slice is the middle of one of the sample CT with noise of a quarter of the dose. BM3D (non-commercial licence, to
be installed) is given white noise of the strength that was added; it starts as many threads as it likes. "one pass" is
what CT and PET take, "four turns" the mean over quarter turns that the MRI weights take. Before a time is believed, all
have to be nearer to the clean slice than the noisy one is.
"""

import argparse
import json
import os
import statistics
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from benchmark_restoration import bm3d_filtered

from napari_restore_rwkv import load_checkpoint, read_scan
from napari_restore_rwkv.metrics import score_slice
from napari_restore_rwkv.restoration.restore import restore_slice
from napari_restore_rwkv.scans.intensity import choose_intensity
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.simulate.ct import QUARTER_DOSE_NOISE_HU, added_noise
from napari_restore_rwkv.training.acceptance import CT_WINDOW_HU

SIDE = 256


def main() -> None:
    """Measure, print, and keep the figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scan, network = read_scan(sample_path("ct_abdomen_dicom")), load_checkpoint("ct-denoise")
    whole = np.asarray(scan.voxels[len(scan.voxels) // 2], np.float32)
    corner = [(side - SIDE) // 2 for side in whole.shape]
    middle = tuple(slice(first, first + SIDE) for first in corner)
    noise = added_noise(whole, scan.spacing_mm[1], QUARTER_DOSE_NOISE_HU, seed=1)
    clean, noisy, rule = whole[middle], (whole + noise)[middle], choose_intensity(scan)
    turned = deepcopy(network)
    turned.turns = 4
    ways = {
        "one pass": lambda: restore_slice(noisy, network, rule),
        "four turns": lambda: restore_slice(noisy, turned, rule),
        "BM3D": lambda: bm3d_filtered(noisy, lambda width: QUARTER_DOSE_NOISE_HU / width),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    psnr = {"noisy": score_slice(noisy, clean, CT_WINDOW_HU).psnr}
    for repeat in range(arguments.repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            result = way()
            # The first of each is slower than those that follow.
            if repeat:
                seconds[name].append(round(time.perf_counter() - start, 4))
            psnr[name] = score_slice(result, clean, CT_WINDOW_HU).psnr
            if psnr[name] <= psnr["noisy"]:
                raise SystemExit(f"{name} made the slice worse: {psnr}")
    beside_bm3d = {}
    for name in ("one pass", "four turns"):
        ratios = [slow / fast for slow, fast in zip(seconds["BM3D"], seconds[name], strict=True)]
        beside_bm3d[name] = {
            "times_faster": round(statistics.median(ratios), 2),
            "from_to": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    figures = {
        "side": SIDE,
        "threads": arguments.threads,
        "processors": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "psnr_db": {name: round(value, 2) for name, value in psnr.items()},
        "seconds": seconds,
        "beside_bm3d": beside_bm3d,
    }
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
