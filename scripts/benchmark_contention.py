"""Measure how much slower each kind of work gets beside one and two busy processes, and at what priority.

    xvfb-run -a .venv/bin/python scripts/benchmark_contention.py [--work NAME ...] [--rounds N] [--priorities N ...]
                                                                 [--json FILE]

Each kind of work runs in a separate process that has imported PyTorch, and used its threads, before the package: the
worst case. It is timed alone, beside one busy process and beside two, in turns, so that other load affects all of
them equally; only the ratios within a turn count. A fair share of two cores is two thirds beside one busy process,
half beside two: 1.5 and 2 times the time, and up to 2 and 3 if the scheduler favours the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from served import Cost, Served, machine, middle, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRIORITIES = (0, 10)
BUSY = (0, 1, 2)
SIDE, SLICES = 512, 2


def a_scan() -> Any:
    """Two noisy slices of CT."""
    from napari_restore_rwkv import Scan

    voxels = np.random.default_rng(0).normal(0, 30, (SLICES, SIDE, SIDE)).astype(np.float32)
    return Scan(voxels, (5.0, 0.8, 0.8), modality="CT", unit="HU")


def restoring() -> Callable[[], object]:
    """The scan through `restore`, as in the panel and on the command line."""
    from napari_restore_rwkv import finish, iter_restore, load_checkpoint

    scan, network = a_scan(), load_checkpoint("ct-denoise")
    return lambda: finish(iter_restore(scan, network, axis="z"))


def from_the_command_line() -> Callable[[], object]:
    """The scan from file to file in a separate process, including its start-up."""
    from napari_restore_rwkv import write_scan

    folder = Path(tempfile.mkdtemp(prefix="contention-"))
    write_scan(a_scan(), folder / "scan.mha")
    command = [sys.executable, "-m", "napari_restore_rwkv", "restore", str(folder / "scan.mha"), str(folder / "o.mha")]
    command += ["--task", "ct-denoise", "--modality", "CT", "--axis", "z", "--overwrite"]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def in_the_panel() -> Callable[[], object]:
    """The scan in a viewer's Restore panel, from pressing the button to the result."""
    import napari
    from benchmark_gui import PLUGIN, spin
    from napari.layers import Layer
    from qtpy.QtCore import QEventLoop

    from napari_restore_rwkv.gui.layers import scan_to_layer

    viewer = napari.Viewer()
    layer = viewer.add_layer(Layer.create(*scan_to_layer(a_scan(), "noisy")))
    _, panel = viewer.window.add_plugin_dock_widget(PLUGIN, "Restore")
    while panel.form.run_on.devices.currentData() == "auto":
        spin(20)
    panel.form.region.value = "volume"

    def press() -> None:
        loop = QEventLoop()
        for signal in (panel.job.ended, panel.job.failed):
            signal.connect(loop.quit)
        panel.restore()
        loop.exec()
        for signal in (panel.job.ended, panel.job.failed):
            signal.disconnect(loop.quit)
        if len(viewer.layers) == 1:
            raise SystemExit(f"The panel made no result: {panel.message.text()}")
        for other in [other for other in viewer.layers if other is not layer]:
            viewer.layers.remove(other)

    return press


def calling_the_network() -> Callable[[], object]:
    """The network called as a function, on one image."""
    import torch

    from napari_restore_rwkv import load_checkpoint

    network, image = load_checkpoint("ct-denoise"), torch.rand(1, 1, SIDE, SIDE)

    def call() -> object:
        with torch.inference_mode():
            return network(image)

    return call


def training() -> Callable[[], object]:
    """Three steps on two crops of 64 x 64."""
    import torch

    from napari_restore_rwkv import RestoreRWKV
    from napari_restore_rwkv.training.train import Trainer, TrainingOptions

    trainer = Trainer(
        RestoreRWKV.light(), lambda _: [(torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64))], TrainingOptions(10**6)
    )
    steps = trainer.run()
    return lambda: [next(steps) for _ in range(3)]


def simulating() -> Callable[[], object]:
    """A PET of 24 slices of 64 x 64 with fewer counts."""
    from napari_restore_rwkv import Scan, finish
    from napari_restore_rwkv.simulate.whole_scan import simulate

    y, x = np.mgrid[:64, :64] - 31.5
    body = np.repeat((np.hypot(y, x) < 24).astype(np.float32)[None], 24, axis=0)
    scan = Scan(body, (4.0, 4.0, 4.0), modality="PET")
    return lambda: finish(simulate(scan, "pet-low-count", seed=0))


def packing() -> Callable[[], object]:
    """Projected noise for a slice of 256 x 256, as `train_weights.py pack` makes it for CT."""
    from napari_restore_rwkv.simulate.ct import added_noise
    from napari_restore_rwkv.threads import let_idle_threads_sleep

    let_idle_threads_sleep()
    y, x = np.mgrid[:256, :256] - 127.5
    body = np.where(np.hypot(y, x) < 100, 40.0, -1000.0)
    return lambda: added_noise(body, 1.0, 30.0, seed=0)


WORK = {
    "restore": restoring,
    "command line": from_the_command_line,
    "panel": in_the_panel,
    "network": calling_the_network,
    "train": training,
    "simulate": simulating,
    "pack": packing,
}


def serve_work(name: str) -> None:
    """Do the work once for each line read, after once to warm up."""
    import torch

    # As a program that imports the package late would have done.
    _ = torch.rand(512, 512) @ torch.rand(512, 512)
    work = WORK[name]()
    work()
    serve(lambda _: work())
    # Qt objects cannot be destroyed in the order in which an interpreter shuts down.
    sys.stdout.flush()
    os._exit(0)


def measure(name: str, priority: int, rounds: int) -> dict[str, Any]:
    """The cost of one kind of work alone and beside others; its ratios within each round."""
    with Served([__file__, "--serve", name], priority=priority) as served:
        turns: list[dict[int, Cost]] = []
        for _ in range(rounds):
            turn = {}
            for busy in BUSY:
                with busy_processes(busy):
                    turn[busy] = served.work()
            turns.append(turn)
    table: dict[str, Any] = {"alone_s": middle(turn[0].passed for turn in turns)}
    table["processor_alone_s"] = middle(turn[0].spent for turn in turns)
    for busy in BUSY[1:]:
        table[f"times_slower_beside_{busy}"] = middle(turn[busy].passed / turn[0].passed for turn in turns)
        table[f"times_the_processor_beside_{busy}"] = middle(
            turn[busy].spent / turn[0].spent for turn in turns if turn[0].spent > 0
        )
    return table


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep this many CPU cores busy inside this context."""
    with ExitStack() as stack:
        for _ in range(count):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        yield


def main() -> None:
    """Measure, print, and save the figures as JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", choices=tuple(WORK), default=list(WORK))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--priorities", type=int, nargs="+", default=PRIORITIES)
    parser.add_argument("--json", type=Path, help="kinds of work that are not measured keep their figures in it")
    parser.add_argument("--serve", choices=tuple(WORK), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve_work(chosen.serve)
        return
    figures = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.exists() else {}
    for name in chosen.work:
        for priority in chosen.priorities:
            found = {"machine": machine(), **measure(name, priority, chosen.rounds)}
            figures[f"{name}, priority {priority}"] = found
            print(name, priority, json.dumps(found), flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
