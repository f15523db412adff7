"""Walk a first-time user's route in a real window with a real mouse, and count the clicks.

    xvfb-run -a -s "-screen 0 1600x1000x24" bash -c "openbox & exec .venv/bin/python scripts/count_clicks.py"

Open a sample, restore the slice, compare, read the verdict, save a report: the mouse is moved and pressed through the X
server by xdotool, as a hand would, and nothing of the plugin is called. It prints each click, and fails where there are
more than eight, or no report in the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import QEventLoop, QPoint, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMenu, QPushButton, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtGui import QAction

MOST, PATIENCE_S, SETTLE_MS = 8, 240.0, 700


class Hand:
    """Moves and presses the mouse, and counts."""

    def __init__(self) -> None:
        self.clicks: list[str] = []

    def click(self, what: str, place: QPoint) -> None:
        """Press the left button at a place of the screen."""
        self.move_to(place)
        subprocess.run(["xdotool", "click", "1"], check=True)
        self.clicks.append(what)
        print(f"click {len(self.clicks)}: {what}")
        wait(SETTLE_MS)

    def move_to(self, place: QPoint) -> None:
        """Move to a place of the screen."""
        subprocess.run(["xdotool", "mousemove", "--sync", str(place.x()), str(place.y())], check=False)
        wait(SETTLE_MS)

    def choose(self, menu_name: str, *names: str) -> None:
        """Open a menu with a click, pass through its submenus, and click at the last of the names."""
        bar = window().menuBar()
        entry = next(one for one in bar.actions() if _plain(one) == menu_name)
        self.click(menu_name, bar.mapToGlobal(bar.actionGeometry(entry).center()))
        menu = entry.menu()
        for name in names[:-1]:
            action = _entry(menu, name)
            self.move_to(menu.mapToGlobal(menu.actionGeometry(action).center()))
            menu = action.menu()
            # Straight to the right, as a hand does, so that the submenu stays open.
            self.move_to(menu.mapToGlobal(menu.actionGeometry(menu.actions()[0]).center()))
        action = _entry(menu, names[-1])
        self.click(" > ".join(names), menu.mapToGlobal(menu.actionGeometry(action).center()))

    def press(self, text: str, parent: QWidget) -> None:
        """Click at a button by its words."""
        button = next(one for one in parent.findChildren(QPushButton) if one.isVisible() and _words(one) == text)
        place = None
        # It may move while words above it come: a hand follows it.
        while place != button.mapToGlobal(button.rect().center()) or not button.isEnabled():
            place = button.mapToGlobal(button.rect().center())
            self.move_to(place)
        self.click(text, place)


def wait(milliseconds: int) -> None:
    """Let the window work."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait_for(done: Callable[[], bool]) -> None:
    """Let the window work until something is so."""
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise SystemExit("The route ended before its end; look at the window under a display of your own.")
        wait(50)


def window() -> QWidget:
    """Return napari's window."""
    return napari.current_viewer().window._qt_window


def main() -> int:
    """Walk the route in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        return walk(Path(folder))


def walk(folder: Path) -> int:
    """Open, restore, compare, judge, save a report."""
    viewer, hand = napari.Viewer(), Hand()
    viewer.window.resize(1280, 800)
    wait(2 * SETTLE_MS)
    hand.choose("File", "Open Sample", "Restore-RWKV", "CT abdomen, quarter dose")
    wait_for(lambda: bool(viewer.layers))
    hand.choose("Plugins", "Restore-RWKV", "Restore")
    from napari_restore_rwkv.gui.restore.panel import RestorePanel

    wait_for(lambda: bool(window().findChildren(RestorePanel)))
    panel = window().findChildren(RestorePanel)[0]
    wait_for(lambda: panel.form.is_known)
    hand.press("Restore", panel)
    wait_for(lambda: not panel.job.running and panel.job.comparison is not None)
    verdict = panel.compare.reading.verdict
    wait_for(lambda: verdict.report is not None)
    print(f"side by side by itself; the verdict: {verdict.line.text()}")
    hand.press("Blink (B)", panel)
    # The dialog waits for the hand: whoever opened it goes on after it.
    _when_asked_where(lambda dialog: hand.press("Save", dialog))
    hand.press("Report ...", panel)
    wait_for(lambda: bool(list(folder.glob("*report.png"))) and bool(list(folder.glob("*report.json"))))
    wait_for(lambda: panel.message.text().startswith("Report saved"))
    print(f"{len(hand.clicks)} clicks from an empty window to {panel.message.text()}")
    viewer.close()
    return 0 if len(hand.clicks) <= MOST else 1


def _when_asked_where(act: Callable[[QFileDialog], None]) -> None:
    """Do something as soon as a dialog for files is open."""
    dialogs = [one for one in QApplication.topLevelWidgets() if isinstance(one, QFileDialog) and one.isVisible()]
    QTimer.singleShot(SETTLE_MS, lambda: act(dialogs[0]) if dialogs else _when_asked_where(act))


def _entry(menu: QMenu, name: str) -> QAction:
    return next(one for one in menu.actions() if _plain(one).startswith(name))


def _plain(action: QAction) -> str:
    return action.text().replace("&", "")


def _words(button: QPushButton) -> str:
    return button.text().replace("&", "")


if __name__ == "__main__":
    sys.exit(main())
