"""Make the pictures of the workbench: a real window with the CT sample, one picture for each view.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/make_screenshots.py [--only NAME ...] [--to FOLDER]

The window is driven as by a user: a slice is restored, a view is chosen, and a screenshot is taken when everything has
been drawn and measured. Pictures have few colours and at most 150 kB, so that a page loads quickly.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

# The theme of a picture is not to end up in the settings of whoever makes it.
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp(prefix="screenshots-")) / "settings.yaml")

import napari
import numpy as np
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QEventLoop, QTimer

from napari_restore_rwkv.gui.compare.drawing import drawing_on
from napari_restore_rwkv.gui.compare.figures import PROFILE, REFERENCE
from napari_restore_rwkv.gui.compare.state import BLINK, ORTHOGONAL, OVER_INPUT, OWN_VIEW, SIDE_BY_SIDE, SWIPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_restore_rwkv.gui.compare.workbench import Workbench
    from napari_restore_rwkv.gui.restore.panel import RestorePanel

PLUGIN, SAMPLE, GOOD = "napari-restore-rwkv", "ct_abdomen_quarter_dose", "ct_abdomen"
PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
WINDOW = (1280, 800)
SLICE, WINDOW_HU, VOXEL = 9, (-160.0, 240.0), (9, 230, 160)
SETTLE_MS, PATIENCE_S = 1200, 300.0
COLOURS, SHARES, LARGEST_BYTES = 128, (1.0, 0.8, 0.65), 150_000


class Stage:
    """A window with the sample, its reference, the Restore panel and the workbench."""

    def __init__(self, theme: str) -> None:
        get_settings().appearance.theme = theme
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*WINDOW)
        self.viewer.open_sample(PLUGIN, GOOD)
        self.good = self.viewer.layers[-1]
        self.good.visible = False
        self.viewer.open_sample(PLUGIN, SAMPLE)
        self.scan = self.viewer.layers[-1]
        self.scan.contrast_limits = WINDOW_HU
        self.panel: RestorePanel
        _, self.panel = self.viewer.window.add_plugin_dock_widget(PLUGIN, "Restore")
        self.viewer.dims.set_current_step(0, SLICE)
        self.wait_for(lambda: self.panel.form.is_known)
        self.panel.choose_layer(self.scan)
        self.panel.restore()
        self.wait_for(lambda: not self.panel.job.running and self.panel.job.comparison is not None)

    @property
    def bench(self) -> Workbench:
        """The workbench, opened with the panel's button if necessary."""
        from napari_restore_rwkv.gui.compare.workbench import Workbench

        self.panel.compare.reading.judge.click()
        self.wait(SETTLE_MS)
        return next(w for w in self.viewer.window._qt_window.findChildren(Workbench))

    def wait(self, milliseconds: int) -> None:
        """Let the window work."""
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Run the event loop until a condition holds."""
        until = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > until:
                raise SystemExit("The window did not reach the expected state; look at it on your own display.")
            self.wait(50)

    def judged(self) -> None:
        """Wait for the verdict on the displayed slice."""
        self.wait_for(lambda: self.panel.compare.reading.verdict.report is not None)

    def photograph(self, file: Path) -> None:
        """Write the whole window into a file."""
        self.wait(SETTLE_MS)
        pixels = self.viewer.window.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        for share in SHARES:
            size = (round(share * picture.width), round(share * picture.height))
            smaller = picture.resize(size, Image.Resampling.LANCZOS) if share < 1 else picture
            smaller.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)
            if file.stat().st_size < LARGEST_BYTES:
                break
        print(f"{file.name}: {picture.width} x {picture.height}, {file.stat().st_size / 1024:.0f} kB")


def side_by_side(stage: Stage) -> None:
    """Input, restored, difference."""
    stage.panel.compare.choose_mode(SIDE_BY_SIDE)
    stage.judged()


def swipe(stage: Stage) -> None:
    """The curtain."""
    stage.panel.compare.choose_mode(SWIPE)


def over_input(stage: Stage) -> None:
    """The difference over the input, in multiples of the local noise."""
    stage.panel.compare.choose_mode(OVER_INPUT)
    stage.panel.compare.difference.mode.setCurrentText("in local noise")
    stage.wait_for(lambda: not stage.panel.compare.difference._fits)


def orthogonal(stage: Stage) -> None:
    """The three planes through a voxel in the liver, of all slices."""
    stage.panel.form.region.value = "volume"
    stage.panel.restore()
    stage.wait_for(lambda: not stage.panel.job.running)
    stage.panel.compare.choose_mode(ORTHOGONAL)
    planes = stage.panel.compare.view.planes
    planes.go_to(VOXEL)
    stage.wait_for(lambda: planes.position == VOXEL)


def own_view(stage: Stage) -> None:
    """The user's own view, restored."""
    stage.panel.compare.difference.mode.setCurrentText("signed")
    stage.panel.compare.choose_mode(BLINK)
    stage.panel.compare.choose_mode(OWN_VIEW)


def measure(stage: Stage) -> None:
    """Figures against the reference, which is the fourth cell, and a line profile."""
    bench = stage.bench
    stage.panel.compare.choose_mode(SIDE_BY_SIDE)
    bench.tabs.setCurrentWidget(bench.measure)
    bench.measure.reference.choose(stage.good)
    bench.reference_button.click()
    drawing = drawing_on(stage.viewer, bench.watch.comparison)
    drawing.add_lines(np.array([[SLICE, 240.0, 90.0], [SLICE, 240.0, 200.0]]))
    drawing.visible = False
    bench.measure.kind.setCurrentText(PROFILE)
    bench.watch.look_again()
    stage.wait_for(
        lambda: (
            bench.measure.measured is not None
            and PROFILE in bench.measure.measured.plots
            and REFERENCE in bench.measure.measured.plots[PROFILE].curves
        )
    )


def slices(stage: Stage) -> None:
    """All slices by suspicion."""
    bench = stage.bench
    bench.tabs.setCurrentWidget(bench.slices)
    bench.slices.start()
    stage.wait_for(lambda: bench.slices.report is not None)


def lost(stage: Stage) -> None:
    """What would be lost here."""
    bench = stage.bench
    bench.tabs.setCurrentWidget(bench.lost)
    bench.lost.start()
    stage.wait_for(lambda: bench.lost._worker is None)


def classical(stage: Stage) -> None:
    """The classical filter beside the network."""
    bench = stage.bench
    bench.tabs.setCurrentWidget(bench.measure)
    bench.beside_button.click()
    stage.wait_for(lambda: bool(bench.measure.measured is not None and bench.measure.measured.classical))


def numbers(stage: Stage) -> None:
    """Figures and plot beside the pictures."""
    bench = stage.bench
    stage.panel.compare.choose_mode(SIDE_BY_SIDE)
    bench.tabs.setCurrentWidget(bench.measure)
    if not bench.measure.beside.isChecked():
        bench.measure.beside.click()
    stage.wait_for(lambda: bench.measure.measured is not None)


def sensitive(stage: Stage) -> None:
    """How far results differ when the slice is flipped and turned."""
    bench = stage.bench
    bench.tabs.setCurrentWidget(bench.sensitive)
    bench.sensitive.start()
    stage.wait_for(lambda: bench.sensitive._worker is None)


VIEWS: dict[str, Callable[[Stage], None]] = {
    "side_by_side": side_by_side,
    "swipe": swipe,
    "over_input": over_input,
    "own_view": own_view,
    "measure": measure,
    "slices": slices,
    "lost": lost,
    "classical": classical,
    "numbers": numbers,
    "sensitive": sensitive,
    "orthogonal": orthogonal,
}


def main() -> None:
    """Make the requested pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=VIEWS, default=list(VIEWS), help="these views; all by default")
    parser.add_argument("--to", type=Path, default=PICTURES, help="folder to write to")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    arguments = parser.parse_args()
    stage = Stage(arguments.theme)
    for name in arguments.only:
        VIEWS[name](stage)
        stage.photograph(arguments.to / f"workbench_{name}.png")
    stage.viewer.close()


if __name__ == "__main__":
    sys.exit(main())
