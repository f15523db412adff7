"""Measure every task at several strengths on the validation subjects, beside alternative methods.

    python scripts/benchmark_restoration.py [--task TASK ...] [--slices N] [--without bm3d] [--only METHOD ...]

Reads the data that train_weights.py packs; writes benchmarks/restoration.json and .md, where tasks and methods that are
not measured keep their rows, and pictures of the slices that gained least. The strengths of the classical filters are
tuned on training subjects, separately for each task and strength; "as offered" is the filter of the package, which
only knows the slice. BM3D (non-commercial licence, only if installed) is given the spectrum of the noise of CT. A U-Net
takes part if train_unet.py has trained one. Times are those of a machine that may have other work to do.
"""

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Callable, Collection
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import unet
from PIL import Image
from restoration_cases import CASES, Case, Pair
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, estimate_sigma
from train_weights import QUALIFIED, ROOT, STATES

from napari_restore_rwkv.image_quality.methods import INPUT, JUDGED, TUNED
from napari_restore_rwkv.metrics import score_slice
from napari_restore_rwkv.network.checkpoint import load_checkpoint, shipped_checkpoints
from napari_restore_rwkv.network.classical import CLASSICAL, load_restorer
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.intensity import choose_intensity
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.scans.scan import Scan

OUTPUT = ROOT / "benchmarks"
Filter = Callable[[np.ndarray], np.ndarray]
Row = dict[str, object]
OURS, ALL_IN_ONE, OFFERED = "ours, light", "ours, all-in-one", "NLM, as offered"
_TRIED = (0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.2, 4.5, 6.5, 9.0, 13.0)
_MULTIPLES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_WIDTHS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 1.8)


Method = Callable[[Pair], np.ndarray]


def classical(case: Case, without: Collection[str]) -> dict[str, tuple[Filter, str]]:
    """The classical filters, each with the strength that was best on the training slices."""

    def means(strength: float) -> Filter:
        return lambda image: denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=strength * _scale(case, image), fast_mode=True
        )

    def variation(strength: float) -> Filter:
        return lambda image: denoise_tv_chambolle(image, weight=strength * _scale(case, image))

    def blur(width: float) -> Filter:
        return lambda image: gaussian_filter(image, width)

    families = {"NLM, tuned": (means, _TRIED), "TV, tuned": (variation, _TRIED), "Gaussian, tuned": (blur, _WIDTHS)}
    if case.spectrum is None and _bm3d_is_there(without):
        families["BM3D, tuned"] = (_bm3d_of_estimated_noise, _MULTIPLES)
    filters = {}
    for name, (make, tried) in families.items():
        best = max(tried, key=lambda value: _mean_psnr(case, make(value)))
        filters[name] = (make(best), f"{best:g}")
    if case.spectrum is not None and _bm3d_is_there(without):
        filters["BM3D, noise spectrum"] = (_bm3d_of_known_noise(case.spectrum), "known noise")
    return filters


def learned(case: Case, without: Collection[str]) -> dict[str, tuple[Method, str]]:
    """Our shipped weights, the all-in-one network, and the U-Net, as far as they exist."""
    rule = choose_intensity(
        Scan(np.stack([pair.low for pair in case.measured]), modality=case.modality, unit=case.unit)
    )
    networks: dict[str, torch.nn.Module] = {}
    if "unet" not in without and (network := unet.trained(STATES / case.task)) is not None:
        # What our weights may do after the network, the U-Net may do as well.
        if case.task in shipped_checkpoints():
            network.card = load_checkpoint(case.task).card  # type: ignore[assignment]
        networks["U-Net"] = network
    for name, task in ((ALL_IN_ONE, "all-in-one"), (OURS, case.task)):
        if task in shipped_checkpoints():
            networks[name] = load_checkpoint(task)
    networks[OFFERED] = load_restorer(CLASSICAL[case.task])

    def restored(pair: Pair, network: torch.nn.Module) -> np.ndarray:
        scan = Scan(pair.scan, modality=case.modality, unit=case.unit)
        steps = iter_restore(scan, network, axis="z", indices=[pair.index], intensity=rule, dtype=np.float32)
        return np.asarray(finish(steps).voxels[pair.index])

    return {name: (partial(restored, network=network), "") for name, network in networks.items()}


def measure(
    case: Case, without: Collection[str] = (), only: Collection[str] = ()
) -> tuple[list[Row], Image.Image | None]:
    """Rows of the table for one case, and a picture of the slice that gained least by ours."""
    networks = learned(case, without)
    # Tuning the filters takes longest: only if one of them is wanted.
    filters = {} if only and set(only) <= set(networks) else classical(case, without)
    on_slices: dict[str, tuple[Method, str]] = {
        name: ((lambda pair, apply=apply: apply(pair.low)), setting) for name, (apply, setting) in filters.items()
    }
    methods: dict[str, tuple[Method, str]] = {"input": (lambda pair: pair.low, ""), **on_slices, **networks}
    if unknown := set(only) - set(methods):
        raise SystemExit(f"No method is called {', '.join(sorted(unknown))}; choose from {', '.join(methods)}.")
    methods = {name: method for name, method in methods.items() if not only or name in (*only, "input")}
    rows: list[Row] = []
    results: dict[str, list[np.ndarray]] = {}
    for name, (apply, setting) in methods.items():
        _reset_peak()
        before, start = _memory_kb("VmRSS"), time.perf_counter()
        results[name] = [np.asarray(apply(pair), np.float32) for pair in case.measured]
        seconds = (time.perf_counter() - start) / len(case.measured)
        scores = [
            score_slice(restored, pair.clean, case.window)
            for restored, pair in zip(results[name], case.measured, strict=True)
        ]
        bias = [float(np.mean(a - pair.clean)) for a, pair in zip(results[name], case.measured, strict=True)]
        rows.append(
            {
                "task": case.task,
                "strength": case.strength,
                "method": name,
                "setting": setting,
                "psnr": float(np.mean([score.psnr for score in scores])),
                "ssim": float(np.mean([score.ssim for score in scores])),
                "rmse": float(np.mean([score.rmse for score in scores])),
                "unit": case.unit,
                "bias": float(np.mean(bias)),
                "psnr_of_slices": [round(score.psnr, 3) for score in scores],
                "seconds_per_slice": seconds,
                "peak_memory_mb": max(0, _memory_kb("VmHWM") - before) / 1024,
            }
        )
        print(f"{case.task} {case.strength}: {name} {setting} {rows[-1]['psnr']:.2f} dB, {seconds:.2f} s", flush=True)
    return rows, None if only else _picture(case, results, rows)


def together(known: list[Row], measured: list[Row]) -> list[Row]:
    """Known rows and new ones, which replace earlier measurements; by case, its input first."""

    def place(row: Row) -> tuple[object, ...]:
        return row["task"], row["strength"], row["method"]

    again = {place(row) for row in measured}
    rows = [row for row in known if place(row) not in again] + measured
    cases = list(dict.fromkeys((row["task"], row["strength"]) for row in (*known, *measured)))
    cases.sort(key=lambda case: list(CASES).index(str(case[0])))
    return sorted(rows, key=lambda row: (cases.index((row["task"], row["strength"])), row["method"] != "input"))


def table(rows: list[Row], heads: dict[str, dict[str, object]]) -> str:
    """The rows as Markdown, with how each task was measured."""
    lines = [
        "# Restoration measured",
        "",
        "Validation subjects were never trained on. PSNR in dB, its range max - min of each clean slice (CT: window "
        "[-160, 240] HU), mean over slices; gain is over the input, and lowest that of the slice that gained least.",
        "",
        *(
            f"- {task}: {head['date']}, {head['machine']}, {head['threads']} thread(s), at most {head['slices']} slices"
            for task, head in heads.items()
        ),
        "",
        "| task | strength | method | PSNR | gain | lowest | SSIM | RMSE | s/slice | MB |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        same = [one for one in rows if (one["task"], one["strength"]) == (row["task"], row["strength"])]
        [base] = [one for one in same if one["method"] == "input"]
        gains = np.subtract(row["psnr_of_slices"], base["psnr_of_slices"])
        lines.append(
            f"| {row['task']} | {row['strength']} | {row['method']} | {row['psnr']:.2f} | {gains.mean():+.2f} | "
            f"{gains.min():+.2f} | {row['ssim']:.4f} | {row['rmse']:.4g} {row['unit']} | "
            f"{row['seconds_per_slice']:.2f} | {row['peak_memory_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def qualified() -> str:
    """What the cards of the shipped weights say about phantoms, as Markdown; PSNR alone rewards smoothing."""
    lines = ["", "# On phantoms (`restore-rwkv qualify`, quick form)", ""]
    lines += [
        "| task | condition | measure | input | NLM, tuned | ours | limit | |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for task in shipped_checkpoints():
        found = load_checkpoint(task).card.details.get(QUALIFIED, {"lines": []})
        for line in found["lines"]:
            if not line["limit"]:
                continue
            shown = [line["values"].get(name) for name in (INPUT, TUNED, JUDGED)]
            figures = " | ".join("" if value is None else f"{value:.3g} {line['unit']}".rstrip() for value in shown)
            verdict = "pass" if line["passed"] else "**miss**"
            lines.append(
                f"| {task} | {line['condition']} | {line['measure']} | {figures} | {line['limit']} | {verdict} |"
            )
    return "\n".join(lines) + "\n"


def _scale(case: Case, image: np.ndarray) -> float:
    """What filter strengths are multiples of: 10 HU, 0.1 SUV, or 1 % of the brightness of an MR slice."""
    return {"CT": 10.0, "PET": 0.1}.get(case.modality) or 0.01 * float(np.percentile(image, 99.9))


def _mean_psnr(case: Case, apply: Filter) -> float:
    return float(np.mean([score_slice(apply(pair.low), pair.clean, case.window).psnr for pair in case.tuning]))


def _bm3d_is_there(without: Collection[str]) -> bool:
    return "bm3d" not in without and importlib.util.find_spec("bm3d") is not None


def _bm3d_of_known_noise(spectrum: Callable[[tuple[int, ...]], np.ndarray]) -> Filter:
    return lambda image: bm3d_filtered(image, lambda width: spectrum(image.shape) / width**2)


def _bm3d_of_estimated_noise(multiple: float) -> Filter:
    """White noise of this many times the estimate, since smooth noise looks fainter than it is."""
    return lambda image: bm3d_filtered(image, lambda width: max(multiple * estimate_sigma(image) / width, 1e-4))


def bm3d_filtered(image: np.ndarray, noise: Callable[[float], Any]) -> np.ndarray:
    """Filter an image scaled to 0..1, which BM3D's block matching is made for; `noise` gets its original range."""
    import bm3d

    # It asks NumPy 2 for a function by its NumPy 1 name.
    setattr(np, "trapz", np.trapezoid)  # noqa: B010 - as an attribute it is unknown to checkers
    low, width = float(image.min()), float(np.ptp(image)) or 1.0
    return bm3d.bm3d((image - low) / width, noise(width)) * width + low


def _picture(case: Case, results: dict[str, list[np.ndarray]], rows: list[Row]) -> Image.Image | None:
    """Input, best classical filter, ours, clean, and ours - clean of the slice that gained least, side by side."""
    if OURS not in results:
        return None
    figures = {row["method"]: np.array(row["psnr_of_slices"]) for row in rows}
    worst = int((figures[OURS] - figures["input"]).argmin())
    peers = [name for name in figures if name not in {"input", OURS, ALL_IN_ONE, "U-Net"}]
    best = max(peers, key=lambda name: figures[name].mean())
    clean = case.measured[worst].clean.astype(np.float32)
    low, high = case.window or (0.0, float(np.percentile(clean, 99.8)))
    shown = [results[name][worst] for name in ("input", best, OURS)] + [clean]
    grey = [((image - low) / (high - low)).clip(0, 1) for image in shown]
    difference = results[OURS][worst] - clean
    limit = max(float(np.percentile(np.abs(difference), 99.5)), 1e-6)
    grey.append((difference / (2 * limit) + 0.5).clip(0, 1))
    return Image.fromarray((255 * np.concatenate(grey, axis=1)).astype(np.uint8))


def _reset_peak() -> None:
    """Reset Linux's peak memory counter of this process; elsewhere the figure stays 0."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _memory_kb(name: str) -> int:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def main() -> None:
    """Measure what the command line requests and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=tuple(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--slices", type=int, default=8, help="validation slices of each case, at most (8)")
    parser.add_argument("--without", choices=("bm3d", "unet"), nargs="+", default=[])
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="METHOD", help="as in the table; others keep their rows"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pictures = chosen.output / "restoration_failures"
    pictures.mkdir(parents=True, exist_ok=True)
    report = chosen.output / "restoration.json"
    known = json.loads(report.read_text()) if report.exists() else {"measured": {}, "rows": []}
    heads: dict[str, dict[str, object]] = known["measured"]
    measured: list[Row] = []
    for task in chosen.task:
        if not chosen.only:
            known["rows"] = [row for row in known["rows"] if row["task"] != task]
            heads[task] = {
                "date": date.today().isoformat(),
                "machine": f"{platform.machine()}, {platform.system()}",
                "threads": chosen.threads,
                "slices": chosen.slices,
            }
        for number, case in enumerate(CASES[task](chosen.slices)):
            found, picture = measure(case, chosen.without, chosen.only)
            measured += found
            if picture:
                picture.save(pictures / f"{task}_{number}.png")
    rows = together(known["rows"], measured)
    report.write_text(json.dumps({"measured": heads, "rows": rows}, indent=1) + "\n")
    (chosen.output / "restoration.md").write_text(table(rows, heads) + qualified())


if __name__ == "__main__":
    main()
