"""Delete, rename, move and hide layers at random moments in every view, in a real window, while scans are restored.

Every view: those of the Restore panel, the fourth cells, maps, figures and slices of the workbench (k-space for MR),
annotations of the Fine-tune panel, and results in memory as well as lazy ones that grow in a file.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/stress_layers.py --actions 300 --seed 1

Nothing may crash, and no exception may be left over. The bin, the eyes and the buttons are pressed with the mouse; the
seed decides what is done, and the speed of the machine decides what that interrupts.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import tempfile
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.compare.compare_view import OWN_VIEW
from napari_restore_rwkv.gui.compare.drawing import drawing_on
from napari_restore_rwkv.gui.compare.workbench import Workbench
from napari_restore_rwkv.gui.docking import find_panel
from napari_restore_rwkv.gui.fine_tune.panel import FineTunePanel
from napari_restore_rwkv.gui.layers import RECORD, scan_to_layer
from napari_restore_rwkv.scans.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QAbstractButton, QWidget

SHAPE = (10, 32, 36)
LONGEST_REST_MS = 60
MOST_LAYERS = 14
# Roles of layers that are there for looking alone, and gone in the person's own view.
FOR_LOOKING = {"swipe", "planes", "classical", "reference", "numbers", "k-space", "contrast kept", "sensitivity"}

# napari 0.9.2 asks labels that have features for the value along a line of sight, which is none before the mouse moves.
FAULTS_OF_NAPARI = ("TypeError: len() of unsized object",)


def small_scan(seed: int) -> Scan:
    """Return a noisy cylinder, CT, and every third time MR."""
    rng = np.random.default_rng(seed)
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = np.where((y - 16) ** 2 + (x - 18) ** 2 < 150, 40, -1000)
    voxels = (body + rng.normal(0, 25, SHAPE)).round().astype(np.int16)
    if seed % 3 == 2:
        return Scan((voxels + 1200).clip(0), (3.0, 1.0, 1.0), modality="MR")
    return Scan(voxels, (3.0, 1.0, 1.0), modality="CT", unit="HU")


class Stress:
    """One window, and what is done to it.

    Parameters
    ----------
    actions
        How many deletions, renamings and moves.
    seed
        Of what is done.
    folder
        Where results go that are saved while they are restored.
    """

    def __init__(self, actions: int, seed: int, folder: Path) -> None:
        self.folder = folder
        self.left, self.done, self.scans = actions, Counter[str](), 0
        self.random = random.Random(seed)
        self.viewer = napari.Viewer()
        self.open_scan()
        contributions.restore_selected_layer()
        (self.panel,) = self.viewer.window.dock_widgets.values()
        self.panel.compare.reading.judge_wanted.emit()
        contributions.annotate_for_fine_tuning()
        self.bench, self.tuning = (find_panel(self.viewer, kind) for kind in (Workbench, FineTunePanel))
        self.timer = QTimer()
        self.timer.setSingleShot(True)
        self.timer.timeout.connect(self.act)
        self.timer.start(0)

    def act(self) -> None:
        """Do something, and schedule the next action."""
        if self.left <= 0:
            self.end()
            return
        self.close_notifications()
        self.keep_it_going()
        counted = (self.delete, self.delete_several, self.rename, self.move)
        others = (self.hide, self.change_view, self.scroll, self.blink, self.mix, self.turn, self.add, self.resize)
        others += (self.fourth_cell, self.judge, self.measure, self.annotate, self.see_difference)
        action = self.random.choice((*counted, *counted, *others))
        self.done[action.__name__] += 1
        self.left -= action in counted
        # Scheduled first: an exception must not end the sequence.
        self.timer.start(self.random.choice((0, 0, self.random.randrange(LONGEST_REST_MS))))
        action()

    def close_notifications(self) -> None:
        """Close napari's notifications: in a window that no window manager has activated they would stay for ever."""
        for notification in self.viewer.window._qt_window.findChildren(NapariQtNotification):
            notification.close()
            notification.deleteLater()

    def keep_it_going(self) -> None:
        """Ensure that there is a scan, and usually a restoration in progress."""
        layers, form = self.viewer.layers, self.panel.form
        if form.layer.value is None or (len(layers) < MOST_LAYERS and self.random.random() < 0.05):
            self.open_scan()
        if not self.panel.job.running and self.panel.restore_button.isEnabled() and self.random.random() < 0.5:
            region, into_file = self.random.choice((("slice", False), ("volume", False), ("volume", True)))
            form.region.value = region
            form.output.value = self.folder / f"{self.scans} {self.left}.ome.zarr" if into_file else None
            self.done[f"restored: {region}{' into a file' * into_file}"] += 1
            press(self.panel.restore_button)
        elif self.panel.job.running and self.random.random() < 0.05:
            press(self.panel.cancel_button)

    def open_scan(self) -> None:
        """Open another scan."""
        self.scans += 1
        self.viewer.add_layer(Layer.create(*scan_to_layer(small_scan(self.scans), f"scan {self.scans}")))

    def any_layer(self) -> Layer | None:
        """Return one of the layers."""
        return self.random.choice(list(self.viewer.layers)) if self.viewer.layers else None

    def delete(self) -> None:
        """Select a layer, and press the bin."""
        self.select(1)
        press(self.viewer.window._qt_viewer.layerButtons.deleteButton)

    def delete_several(self) -> None:
        """Select some layers, and press the bin."""
        self.select(self.random.randrange(1, 4))
        press(self.viewer.window._qt_viewer.layerButtons.deleteButton)

    def select(self, count: int) -> None:
        """Select this many layers."""
        layers = list(self.viewer.layers)
        self.viewer.layers.selection = set(self.random.sample(layers, min(count, len(layers))))

    def rename(self) -> None:
        """Give a layer another name, a strange one or its own."""
        layer = self.any_layer()
        if layer is not None:
            layer.name = self.random.choice(("x", "a very long name of a layer " * 3, "<b>bold</b>", layer.name))

    def move(self) -> None:
        """Change the order of the layers."""
        layers = self.viewer.layers
        if layers:
            # As when a line of the list is dragged.
            layers.move(self.random.randrange(len(layers)), self.random.randrange(len(layers) + 1))

    def hide(self) -> None:
        """Hide a layer, or show it."""
        layer = self.any_layer()
        if layer is not None:
            layer.visible = not layer.visible

    def change_view(self) -> None:
        """Choose another view on the result."""
        modes = self.panel.compare.modes
        modes.setCurrentIndex(self.random.randrange(modes.count()))

    def scroll(self) -> None:
        """Go to another slice."""
        dims = self.viewer.dims
        if dims.ndim > 2:
            dims.set_current_step(0, self.random.randrange(SHAPE[0]))

    def blink(self) -> None:
        """Press Blink."""
        press(self.panel.compare.blink_button)

    def mix(self) -> None:
        """Choose another strength."""
        self.panel.compare.strength.setValue(self.random.randrange(101))

    def turn(self) -> None:
        """Another number of displayed dimensions, or the axes in another order."""
        dims = self.viewer.dims
        if self.random.random() < 0.5:
            dims.ndisplay = 5 - dims.ndisplay
        else:
            dims.roll()

    def see_difference(self) -> None:
        """Show the difference another way."""
        modes = self.panel.compare.difference.mode
        modes.setCurrentIndex(self.random.randrange(modes.count()))

    def fourth_cell(self) -> None:
        """Put something into the fourth cell, or take it away."""
        references = self.bench.measure.reference
        references.choose(self.random.choice([None, *self.viewer.layers]))
        buttons = (self.bench.beside_button, self.bench.reference_button, self.bench.measure.beside)
        self.click(self.random.choice((*buttons, self.bench.kspace.show_button)))

    def judge(self) -> None:
        """Map the slice, or stop; judge all slices."""
        lost, sensitive = self.bench.lost, self.bench.sensitive
        self.click(self.random.choice((lost.go, lost.stop, sensitive.go, sensitive.stop, self.bench.slices.go)))
        self.bench.tabs.setCurrentIndex(self.random.randrange(self.bench.tabs.count()))

    def measure(self) -> None:
        """Measure the volume, or a region that is drawn."""
        comparison = self.bench.watch.comparison
        if comparison is None or self.random.random() < 0.5:
            self.click(self.bench.measure.volume)
            return
        self.click(self.bench.measure.draw)
        corners = np.array([[8, 8], [8, 20], [20, 20], [20, 8]], float)
        drawing_on(self.viewer, comparison).add_rectangles(np.pad(corners, ((0, 0), (1, 0))))

    def annotate(self) -> None:
        """Annotate a scan for fine-tuning: a new layer of labels, another class, shapes that are filled."""
        if len(self.viewer.layers) < MOST_LAYERS:
            self.viewer.layers.selection.active = self.any_layer()
            contributions.annotate_for_fine_tuning()
        tools = self.tuning.annotations
        self.random.choice((tools.fill_in, lambda: tools.choose(self.random.randrange(1, 5))))()

    def click(self, button: QAbstractButton) -> None:
        """Press a button of a panel that may be behind another one."""
        if button.isEnabled():
            self.done[f"{button.accessibleName() or button.text()}"] += 1
            button.click()

    def end(self) -> None:
        """Give the own view back, in which nothing may be left that was there for looking alone."""
        self.panel.compare.choose_mode(OWN_VIEW)
        left = [layer.name for layer in self.viewer.layers if layer.metadata.get(RECORD, {}).get("role") in FOR_LOOKING]
        self.viewer.close()
        if left:
            raise AssertionError(f"left over in the own view: {left}")

    def add(self) -> None:
        """Add a layer of another kind, or one that is not a scan."""
        if len(self.viewer.layers) < MOST_LAYERS:
            self.random.choice((self.viewer.add_labels, self.viewer.add_image))(np.zeros(SHAPE, np.uint8))

    def resize(self) -> None:
        """Resize the window."""
        self.viewer.window.resize(self.random.randrange(900, 1500), self.random.randrange(600, 950))


def press(button: QWidget) -> None:
    """Click a button with the mouse."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(4, 4))


def run(actions: int, seed: int, folder: Path) -> list[str]:
    """Run, and return the exceptions that were left over."""
    errors: list[str] = []

    def note(kind: type[BaseException], error: BaseException | None, trace: object) -> None:
        words = "".join(traceback.format_exception(error))
        if not words.rstrip().endswith(FAULTS_OF_NAPARI):
            errors.append(words)

    hooks: tuple[Callable[..., None], ...] = (sys.excepthook, threading.excepthook)
    stress = Stress(actions, seed, folder)
    # napari puts its own hooks in when it starts to run.
    QTimer.singleShot(0, lambda: setattr(sys, "excepthook", note))
    threading.excepthook = lambda words: note(words.exc_type, words.exc_value, words.exc_traceback)
    napari.run()
    sys.excepthook, threading.excepthook = hooks
    print(f"{actions} deletions, renamings and moves with seed {seed}:", dict(sorted(stress.done.items())))
    return errors


def main() -> int:
    """Return 0 if all went well."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        errors = run(asked.actions, asked.seed, Path(folder))
    for error, times in Counter(errors).most_common():
        print(f"{times} x {error}", file=sys.stderr)
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
