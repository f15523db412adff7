"""Time the network on a slice beside v0.1.0, its plain form, other ways to run it, a U-Net, and classical filters.

    .venv/bin/python scripts/benchmark_speed.py [--sides N ...] [--threads N ...] [--repeats N] [--before FOLDER]
                                                [--full] [--ways WAY ...] [--json FILE]

Each way runs in its own process; all take turns. Medians, minima and maxima are reported, of wall time, of CPU time,
and of the ratios to the network within each turn. If other programs are running, CPU time says more, especially with
one thread. Every way that computes the same network has to agree with its plain form to 1e-5 on the timed image,
otherwise nothing is kept.

--before FOLDER has an earlier version of the package, with its kernel, as installed by `pip install --target`. "share"
is the network's arithmetic rate relative to a large matrix product with the same number of threads. BM3D and ONNX
Runtime take part if installed; torch.compile does not, because the network's generator returns nothing once compiled.
--json adds to the content of the file, and writes the table beside it as .md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from served import Cost, Served, machine, middle, serve

if TYPE_CHECKING:
    from collections.abc import Callable

# Multiply-adds per pixel of the light and of the full network, each counted as two operations.
FLOP_PER_PIXEL = {"light": 2 * 1.33e9 / 128**2, "full": 2 * 37.3e9 / 128**2}
PRODUCT_SIDE = 1536
NETWORK, PLAIN, BEFORE, PRODUCT = "network", "plain network", "v0.1.0", "matrix product"
ONNX = "ONNX Runtime"
AVX2 = {
    "BI_WKV_INSTRUCTION_SET": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
ENVIRONMENT = {f"{NETWORK}, AVX2": AVX2, f"{BEFORE}, AVX2": AVX2, PLAIN: {"RESTORE_RWKV_FUSED": "0"}}
# Ways that compute the same numbers.
SAME = (NETWORK, PLAIN, BEFORE, ONNX)
TOLERANCE = 1e-5
# Ways that take seconds, or are prepared separately for each size, are only measured on the smallest slice.
ON_THE_SMALLEST = ("BM3D", ONNX)
# A way that costs this many times the network takes part in every third turn.
SLOW = 10.0


def image_of(side: int) -> np.ndarray:
    """A noisy slice of this side, values about 0.5."""
    return np.random.default_rng(0).normal(0.5, 0.05, (side, side)).astype(np.float32)


def network_of(size: str) -> Any:
    """The network with the CT weights of v0.1.0, or the full one with random weights."""
    import torch

    from napari_restore_rwkv import RestoreRWKV, load_checkpoint
    from napari_restore_rwkv.network import checkpoint

    if size == "light":
        # In that version they had no number yet.
        return load_checkpoint("ct-denoise@1" if hasattr(checkpoint, "earlier_checkpoints") else "ct-denoise")
    torch.manual_seed(0)
    network = RestoreRWKV.full()
    torch.nn.init.normal_(network.output.weight, std=0.003)
    return network.fused()


def work_of(way: str, size: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """What one way does to a slice."""
    if way in FILTERS:
        return FILTERS[way]
    import torch

    if way == PRODUCT:
        a, b = torch.rand(2, PRODUCT_SIDE, PRODUCT_SIDE)
        return lambda _: (a @ b).numpy()
    if way == "U-Net":
        from unet import UNet

        return _through(UNet().eval().requires_grad_(False))
    network = network_of(size)
    if way == ONNX:
        return _in_onnx_runtime(network, threads)
    return _through(network)


def _through(network: Any) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from napari_restore_rwkv.restoration.memory import reused_buffers

    def restore(image: np.ndarray) -> np.ndarray:
        with reused_buffers(), torch.inference_mode():
            return network(torch.from_numpy(image)[None, None]).numpy()[0, 0]

    return restore


def _unfused(network: Any) -> Any:
    for module in network.modules():
        if getattr(module, "fused", False) is True:
            module.fused = False
    return network


def _in_onnx_runtime(network: Any, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """The network with the portable operator, exported for each size of image as it comes."""
    import onnxruntime
    import torch

    from napari_restore_rwkv.network.bi_wkv_portable import re_wkv_portable

    for module in _unfused(network).modules():
        if hasattr(module, "operator"):
            module.operator = re_wkv_portable
    sessions = {}

    def restore(image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(image)[None, None]
        if image.shape not in sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "network.onnx")
                torch.onnx.export(network, (batch,), path, dynamo=False, opset_version=17, input_names=["image"])
                sessions[image.shape] = onnxruntime.InferenceSession(path, options)
        return sessions[image.shape].run(None, {"image": batch.numpy()})[0][0, 0]

    return restore


def _non_local_means(image: np.ndarray) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, 5, 6, 0.05, fast_mode=True)


def _total_variation(image: np.ndarray) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, 0.05)


def _bm3d(image: np.ndarray) -> np.ndarray:
    from benchmark_restoration import bm3d_filtered

    return bm3d_filtered(image, lambda _: 0.05)


FILTERS = {"non-local means": _non_local_means, "total variation": _total_variation, "BM3D": _bm3d}


def serve_way(way: str, size: str, threads: int, before: str, folder: str) -> None:
    """Restore a slice of the side on each line read; the first result of each side is kept in the folder."""
    if way.startswith(BEFORE):
        # An editable installation would be found first.
        sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
        sys.path.insert(0, before)
        import napari_restore_rwkv

        if not Path(napari_restore_rwkv.__file__).is_relative_to(before):
            raise SystemExit(f"{napari_restore_rwkv.__file__} was imported, and not what is in {before}.")
    import torch

    torch.set_num_threads(threads)
    restore = work_of(way.removesuffix(", AVX2"), size, threads)

    def work(side: str) -> None:
        result = restore(image_of(int(side)))
        path = Path(folder) / f"{way}, {side}.npy"
        if not path.exists():
            np.save(path, result)

    serve(work)


def measure(ways: list[str], size: str, sides: list[int], threads: int, repeats: int, before: str) -> dict[str, Any]:
    """Time all ways on slices of all sides, in turns; the JSON values of one part of the figures."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        served = {
            way: stack.enter_context(
                Served([__file__, "--serve", way, size, str(threads), before, folder], ENVIRONMENT.get(way))
            )
            for way in ways
        }
        places = [(way, side) for way in ways for side in sides if way not in ON_THE_SMALLEST or side == min(sides)]
        # The first time weights are packed, and the network is exported.
        for way, side in places:
            served[way].work(str(side))
        errors = _differences(places, Path(folder))
        turns = [{(way, side): served[way].work(str(side)) for way, side in places}]
        slow = {place for place, cost in turns[0].items() if cost.spent > SLOW * turns[0][NETWORK, place[1]].spent}
        for turn in range(1, repeats):
            chosen = [place for place in places if turn % 3 == 0 or place not in slow]
            turns.append({(way, side): served[way].work(str(side)) for way, side in chosen})
    found: dict[str, Any] = {str(side): {} for side in sides}
    for way, side in places:
        own = [(turn[way, side], turn[NETWORK, side]) for turn in turns if (way, side) in turn]
        found[str(side)][way] = {**_row(own), **errors.get((way, side), {})}
    for side in sides:
        flop = FLOP_PER_PIXEL[size] * side**2
        costs = [(turn[NETWORK, side], turn[PRODUCT, side]) for turn in turns]
        found[str(side)]["share of the matrix product's rate"] = {
            "by_clock": middle(flop / own.passed / (2 * PRODUCT_SIDE**3 / product.passed) for own, product in costs),
            "by_processor": middle(flop / own.spent / (2 * PRODUCT_SIDE**3 / product.spent) for own, product in costs),
        }
    if len(sides) > 1:
        small, large = min(sides), max(sides)
        ratios = [turn[NETWORK, large].spent / turn[NETWORK, small].spent for turn in turns]
        found[f"{large} beside {small}, processor"] = middle(ratios)
    return found


def _row(costs: list[tuple[Cost, Cost]]) -> dict[str, Any]:
    return {
        "seconds": middle(own.passed for own, _ in costs),
        "processor_seconds": middle(own.spent for own, _ in costs),
        "x_network": middle(own.passed / unit.passed for own, unit in costs),
        "x_network_processor": middle(own.spent / unit.spent for own, unit in costs),
        "peak_mib": middle(own.peak_mib for own, _ in costs),
        "times": len(costs),
    }


def _differences(places: list[tuple[str, int]], folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Largest difference of each way of the same network from its plain form; SystemExit if one is too large."""
    errors = {}
    for way, side in places:
        if way.removesuffix(", AVX2") not in SAME or way == PLAIN:
            continue
        own, plain = (np.load(folder / f"{name}, {side}.npy") for name in (way, PLAIN))
        error = float(np.abs(own - plain).max())
        # A network that changes nothing would agree with everything.
        if not error <= TOLERANCE or np.abs(plain - image_of(side)).max() < 100 * TOLERANCE:
            raise SystemExit(f"{way} differs from the plain network by {error:.1e}. Nothing was measured.")
        errors[way, side] = {"largest_difference_from_plain": float(f"{error:.2g}")}
    return errors


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Speed of a slice",
        "",
        "Medians, in brackets the least and the largest. Ratios are to our network in the same turn, by processor "
        "time; the clock says little where the machine was shared, and the load average tells how much it was. "
        "`scripts/benchmark_speed.py` measures it.",
    ]
    for name, part in figures.items():
        where, found = part["machine"], part["found"]
        lines += ["", f"## {name}", "", f"{where['processor']}, {where['processors']} processors, {where['kernel']}, "]
        lines[-1] += f"torch {where['torch']}, load average {where['load_average'][0]}."
        for side in (key for key in found if key.isdigit()):
            lines += [
                "",
                f"| {side} x {side} | processor s | x network | clock s | MiB | from plain |",
                "|---|---:|---:|---:|---:|---:|",
            ]
            for way, row in found[side].items():
                if "times" not in row:
                    continue
                error = row.get("largest_difference_from_plain")
                lines.append(
                    f"| {way} | {row['processor_seconds']['median']:.3g} | {_spread(row['x_network_processor'])} | "
                    f"{row['seconds']['median']:.3g} | {row['peak_mib']['median']:.0f} | {error or ''} |"
                )
            share = found[side]["share of the matrix product's rate"]["by_processor"]
            lines += ["", f"Share of the matrix product's rate: {_spread(share)}."]
        lines += [f"{key}: {_spread(found[key])} times." for key in found if "beside" in key]
    return "\n".join(lines) + "\n"


def _spread(one: dict[str, float]) -> str:
    return f"{one['median']:.2f} ({one['least']:.2f} to {one['largest']:.2f})"


def main() -> None:
    """Measure, print, and save the figures as JSON and Markdown if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--before", type=Path, help="a folder with an earlier version of the package")
    parser.add_argument("--full", action="store_true", help="the full network, not the light one and its peers")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="only these besides the network and what it needs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        way, size, threads, before, folder = chosen.serve
        serve_way(way, size, int(threads), before, folder)
        return
    where = machine()
    size = "full" if chosen.full else "light"
    ways = _ways(chosen.full, chosen.before is not None, "AVX-512" in where["kernel"])
    if chosen.ways:
        ways = [way for way in ways if way in (NETWORK, PLAIN, PRODUCT, *chosen.ways)]
    figures = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.exists() else {}
    for threads in chosen.threads:
        name = f"{size} network, {threads} thread{'s' if threads > 1 else ''}"
        before = str(chosen.before.resolve()) if chosen.before else ""
        found = measure(ways, size, chosen.sides, threads, chosen.repeats, before)
        figures[name] = {"machine": where, "found": found}
        print(name, json.dumps(found, indent=1), flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
            chosen.json.with_suffix(".md").write_text(table(figures))


def _ways(full: bool, before: bool, has_avx512: bool) -> list[str]:
    ways = [NETWORK, PLAIN, PRODUCT, *([BEFORE] if before else [])]
    if has_avx512:
        ways += [f"{NETWORK}, AVX2", *([f"{BEFORE}, AVX2"] if before else [])]
    if full:
        return ways
    ways += ["U-Net", *(name for name in FILTERS if name != "BM3D" or find_spec("bm3d"))]
    return ways + ([ONNX] if find_spec("onnxruntime") else [])


if __name__ == "__main__":
    main()
