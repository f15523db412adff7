"""Delete, rename, move and hide layers at random moments in every view, in a real window, while scans are restored.

    xvfb-run -a -s "-screen 0 1600x1000x24" .venv/bin/python scripts/stress_layers.py --actions 300 --seed 1

Nothing may crash, and no exception may be left over. The bin, the eyes and the buttons are pressed with the mouse; the
seed decides what is done, and the speed of the machine decides what that interrupts.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.layers import scan_to_layer
from napari_restore_rwkv.scans.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

SHAPE = (10, 32, 36)
LONGEST_REST_MS = 60
MOST_LAYERS = 14


def small_scan(seed: int) -> Scan:
    """Return a noisy cylinder, CT."""
    rng = np.random.default_rng(seed)
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = np.where((y - 16) ** 2 + (x - 18) ** 2 < 150, 40, -1000)
    voxels = (body + rng.normal(0, 25, SHAPE)).round().astype(np.int16)
    return Scan(voxels, (3.0, 1.0, 1.0), modality="CT", unit="HU")


class Stress:
    """One window, and what is done to it.

    Parameters
    ----------
    actions
        How many deletions, renamings and moves.
    seed
        Of what is done.
    """

    def __init__(self, actions: int, seed: int) -> None:
        self.left, self.done, self.scans = actions, Counter[str](), 0
        self.random = random.Random(seed)
        self.viewer = napari.Viewer()
        self.open_scan()
        contributions.restore_selected_layer()
        (self.panel,) = self.viewer.window.dock_widgets.values()
        self.timer = QTimer()
        self.timer.setSingleShot(True)
        self.timer.timeout.connect(self.act)
        self.timer.start(0)

    def act(self) -> None:
        """Do something, and schedule the next action."""
        if self.left <= 0:
            self.viewer.close()
            return
        self.keep_it_going()
        counted = (self.delete, self.delete_several, self.rename, self.move)
        others = (self.hide, self.change_view, self.scroll, self.blink, self.mix, self.turn, self.annotate, self.resize)
        action = self.random.choice((*counted, *counted, *others))
        self.done[action.__name__] += 1
        self.left -= action in counted
        # Scheduled first: an exception must not end the sequence.
        self.timer.start(self.random.choice((0, 0, self.random.randrange(LONGEST_REST_MS))))
        action()

    def keep_it_going(self) -> None:
        """Ensure that there is a scan, and usually a restoration in progress."""
        layers, form = self.viewer.layers, self.panel.form
        if form.layer.value is None or (len(layers) < MOST_LAYERS and self.random.random() < 0.05):
            self.open_scan()
        if not self.panel.job.running and self.panel.restore_button.isEnabled() and self.random.random() < 0.5:
            form.region.value = self.random.choice(("slice", "volume"))
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

    def annotate(self) -> None:
        """Add a layer of another kind, or one that is not a scan."""
        if len(self.viewer.layers) < MOST_LAYERS:
            self.random.choice((self.viewer.add_labels, self.viewer.add_image))(np.zeros(SHAPE, np.uint8))

    def resize(self) -> None:
        """Resize the window."""
        self.viewer.window.resize(self.random.randrange(900, 1500), self.random.randrange(600, 950))


def press(button: QWidget) -> None:
    """Click a button with the mouse."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(4, 4))


def run(actions: int, seed: int) -> list[str]:
    """Run, and return the exceptions that were left over."""
    errors: list[str] = []

    def note(kind: type[BaseException], error: BaseException | None, trace: object) -> None:
        errors.append("".join(traceback.format_exception(error)))

    hooks: tuple[Callable[..., None], ...] = (sys.excepthook, threading.excepthook)
    stress = Stress(actions, seed)
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
    errors = run(asked.actions, asked.seed)
    for error, times in Counter(errors).most_common():
        print(f"{times} x {error}", file=sys.stderr)
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
