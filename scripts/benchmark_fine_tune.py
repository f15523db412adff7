"""What fine-tuning gains on noise that the shipped weights have not seen, and what its loop costs.

    nice -n 5 .venv/bin/python scripts/benchmark_fine_tune.py [--cases NAME ...] [--steps N] [--threads N] [--json FILE]

The sample CT, whose subject the shipped weights were never trained on, gets simulated noise: correlated texture, double
strength, or that of a sharper kernel. Some of its slices are held out; the figures are those of held-out slices
against the clean scan, PSNR in the window of -160 to 240 HU. "noisy only" trains on the noisy scan alone and is
then measured against the clean one, which it has never seen. "loop" compares 1,000 steps (or
--loop-steps) with bare forward and backward passes of batches of the same size.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_restore_rwkv import load_checkpoint, read_scan
from napari_restore_rwkv.metrics import score_slice
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.scans.noise.smoothing import box_mean
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.simulate.ct import added_noise
from napari_restore_rwkv.training.acceptance import CT_WINDOW_HU, restored
from napari_restore_rwkv.training.fine_tune import FineTuneOptions, fine_tune
from napari_restore_rwkv.training.material import Material, check_material

if TYPE_CHECKING:
    from napari_restore_rwkv.scans.scan import Scan

SAMPLE, TASK, SEED = "ct_abdomen_dicom", "ct-denoise", 11
QUARTER_DOSE_HU = 35.0


def correlated(noise: np.ndarray) -> np.ndarray:
    """Noise of coarse grain, of the same strength."""
    smooth = box_mean(noise, 1)
    return smooth * (noise.std() / smooth.std())


def sharper(noise: np.ndarray) -> np.ndarray:
    """Noise of a sharper kernel: fine grain is emphasised, at the same strength."""
    sharp = noise + 2 * (noise - box_mean(noise, 1))
    return sharp * (noise.std() / sharp.std())


TEXTURES = {"correlated texture": correlated, "double strength": lambda noise: 2 * noise, "sharper kernel": sharper}


def noisy_scan(clean: Scan, texture: str) -> Scan:
    """The sample with simulated noise."""
    slices = [np.asarray(image, np.float32) for image in clean.voxels]
    noise = [added_noise(image, clean.spacing_mm[1], QUARTER_DOSE_HU, seed=SEED + z) for z, image in enumerate(slices)]
    changed = [image + TEXTURES[texture](one) for image, one in zip(slices, noise, strict=True)]
    return clean.with_voxels(np.stack(changed).round().astype(np.int16))


def measure(clean: Scan, texture: str, steps: int, *, noisy_only: bool) -> dict[str, Any]:
    """Fine-tune, and score the held-out slices against the clean scan."""
    noisy = noisy_scan(clean, texture)
    material = Material(noisy, None if noisy_only else clean)
    options = FineTuneOptions(steps=steps, seed=SEED)
    held = check_material(material, "CT").splits[0].held_out
    wall, cpu = time.perf_counter(), time.process_time()
    run = fine_tune(TASK, material, options)
    try:
        while True:
            step = next(run)
            if step.score:
                print(
                    f"{texture}: step {step.step} of {step.total}, {step.score.psnr:.2f} dB",
                    file=sys.stderr,
                    flush=True,
                )
    except StopIteration as end:
        outcome = end.value
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scores = {
        name: _mean_scores(noisy, clean, outcome.network(amount), held)
        for name, amount in (("before", 0), ("after", 1))
    }
    return {
        "case": f"{texture}, {'noisy only' if noisy_only else 'paired'}",
        "steps": steps,
        "held_out_slices": list(held),
        "verdict": outcome.verdict.reason,
        "best_step": outcome.card.details["best_step"],
        **{f"{figure}_{name}": value for name, figures in scores.items() for figure, value in figures.items()},
        "gain_db": scores["after"]["psnr"] - scores["before"]["psnr"],
        "seconds": wall,
        "cpu_seconds": cpu,
    }


def _mean_scores(noisy: Scan, clean: Scan, network: Any, held: tuple[int, ...]) -> dict[str, float]:
    rule = choose_intensity(noisy)
    scores = [score_slice(restored(network, noisy.voxels[i], rule), clean.voxels[i], CT_WINDOW_HU) for i in held]
    return {name: statistics.mean(getattr(score, name) for score in scores) for name in ("psnr", "ssim")}


def loop(clean: Scan, steps: int) -> dict[str, Any]:
    """Compare steps of fine-tuning at 4x64x64, without scoring, with bare passes, in alternating parts."""
    network = load_checkpoint(TASK, fused=False).train()
    image = torch.rand(4, 1, 64, 64)
    noise = np.random.default_rng(SEED).normal(0, QUARTER_DOSE_HU, clean.shape)
    material = Material(clean.with_voxels((clean.voxels + noise).round().astype(np.int16)), clean)
    run = fine_tune(TASK, material, FineTuneOptions(steps=steps + 10, crops=((64, 4),), score_every=10 * steps))
    while next(run).step < 10:
        pass
    part, bare, tuned = 50, 0.0, 0.0
    for _ in range(steps // part):
        begun = time.process_time()
        for _ in range(part):
            network.zero_grad()
            (network(image) - image).abs().mean().backward()
        middle = time.process_time()
        for _ in range(part - 1):
            next(run)
        tuned += (time.process_time() - middle) * part / (part - 1)
        bare += middle - begun
        next(run)
    run.close()
    return {
        "case": "loop at 4x64x64",
        "steps": steps,
        "bare_cpu_seconds": bare,
        "cpu_seconds": tuned,
        "ratio": tuned / bare,
    }


def main() -> None:
    """Run the requested cases."""
    names = [f"{texture}, {mode}" for texture in TEXTURES for mode in ("paired", "noisy only")] + ["loop"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--loop-steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clean = read_scan(sample_path(SAMPLE))
    results = []
    for case in arguments.cases:
        if case == "loop":
            results.append(loop(clean, arguments.loop_steps))
        else:
            texture, mode = case.split(", ")
            results.append(measure(clean, texture, arguments.steps, noisy_only=mode == "noisy only"))
        print(json.dumps(results[-1], indent=2), flush=True)
        if arguments.json:
            machine = {"machine": platform.processor() or platform.machine(), "threads": arguments.threads}
            arguments.json.write_text(json.dumps({**machine, "torch": torch.__version__, "results": results}, indent=2))


if __name__ == "__main__":
    main()
