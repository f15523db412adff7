"""Open a scan in napari and press Restore; then leave the window to the user, or save files and close it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from qtpy.QtCore import QEventLoop, QTimer

from napari_restore_rwkv.errors import RestoreError
from napari_restore_rwkv.gui.panels import open_restore_panel
from napari_restore_rwkv.scans.files import write_scan

if TYPE_CHECKING:
    from napari_restore_rwkv.gui.restore.panel import RestorePanel

PLUGIN = "napari-restore-rwkv"
SAMPLE = "ct_abdomen_quarter_dose"
WINDOW = (1600, 760)
DRAW_MS = 1500
WAIT_MS, MOST_WAITS = 50, 2400


def main() -> int:
    """Run the demo; return 0 if the scan was restored."""
    arguments = _parse()
    if arguments.scan is not None and not arguments.scan.exists():
        return _fail(f"There is no file or folder {arguments.scan}; check the name.")
    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    try:
        if arguments.scan is None:
            viewer.open_sample(PLUGIN, SAMPLE)
        else:
            viewer.open(arguments.scan, plugin=PLUGIN)
    except RestoreError as error:
        return _fail(str(error))
    panel = open_restore_panel(viewer)
    panel.form.region.value = "volume"
    if arguments.leave_files is None:
        panel.restore_button.click()
        napari.run()
        return 0
    works, sentence = restore_and_wait(panel)
    if not works:
        return _fail(sentence)
    leave_files(viewer, panel, arguments.leave_files)
    print(sentence)
    viewer.close()
    return 0


def restore_and_wait(panel: RestorePanel) -> tuple[bool, str]:
    """Press Restore and wait for the end; return whether it worked, and the panel's last message."""
    loop, failures = QEventLoop(), []
    # Restore itself waits until the devices are known; here its start has to be observed.
    for _ in range(MOST_WAITS):
        if panel.form.is_known:
            break
        QTimer.singleShot(WAIT_MS, loop.quit)
        loop.exec()
    panel.job.failed.connect(failures.append)
    panel.job.failed.connect(loop.quit)
    panel.job.ended.connect(loop.quit)
    panel.restore_button.click()
    if panel.job.running:
        loop.exec()
        return not failures, panel.message.text()
    return False, panel.message.text()


def leave_files(viewer: napari.Viewer, panel: RestorePanel, folder: Path) -> None:
    """Save a picture of the window and the restored scan, and name both."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, restored = folder / "before_after_difference.png", folder / "restored.nii.gz"
    _let_napari_draw()
    viewer.screenshot(str(picture), canvas_only=False, flash=False)
    write_scan(panel.job.comparison.result.as_scan(), restored)
    print(picture)
    print(restored)


def _let_napari_draw() -> None:
    loop = QEventLoop()
    QTimer.singleShot(DRAW_MS, loop.quit)
    loop.exec()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", nargs="?", type=Path, help="a scan file or DICOM folder; by default the CT sample")
    parser.add_argument(
        "--leave-files", type=Path, metavar="FOLDER", help="save a picture and the result there, and close"
    )
    return parser.parse_args()


def _fail(sentence: str) -> int:
    print(f"demo: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
