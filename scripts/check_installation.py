"""Check an installation as a new user would: doctor, manifest, one restoration; exit code 0 if everything works.

It needs nothing but the package, napari and what they need: python scripts/check_installation.py
With --panel, and a screen, napari is opened too, and a sample is restored by its panel.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = "pet_low_count.nii.gz"
PANEL = """
import time
import napari
from qtpy import API_NAME
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
viewer.open_sample("napari-restore-rwkv", "pet_low_count")
_, panel = viewer.window.add_plugin_dock_widget("napari-restore-rwkv", "Restore")
ended = []
panel.job.ended.connect(ended.append)
panel.job.failed.connect(ended.append)
panel.restore()
begun = time.monotonic()
while not ended and time.monotonic() < begun + 300:
    QApplication.processEvents()
    time.sleep(0.01)
names = [layer.name for layer in viewer.layers]
viewer.close()
assert any(name.endswith("[restored]") for name in names), (ended, panel.message.text(), names)
print(f"panel: works with {API_NAME} and napari {napari.__version__}")
"""


def main() -> int:
    """Check, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panel", action="store_true", help="open napari, and restore a sample there")
    arguments = parser.parse_args()
    # A source checkout around this script must not be used instead of the installed package.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    import napari_restore_rwkv
    from napari_restore_rwkv.network.bi_wkv import kernel_in_use
    from napari_restore_rwkv.scans.samples import sample_path

    place = Path(napari_restore_rwkv.__file__).parent
    print(f"napari-restore-rwkv {napari_restore_rwkv.__version__} in {place}, Python {sys.version.split()[0]}")
    kernel = kernel_in_use("cpu")
    problems = [] if kernel.name.startswith("compiled") else [f"no compiled kernel: {kernel.name}, {kernel.why}"]
    problems += _manifest(place / "napari.yaml")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "restored.nii.gz"
        problems += _command("doctor")
        problems += _command("restore", str(sample_path(SAMPLE)), str(result), "--task", "pet-low-count")
        problems += [] if result.is_file() else ["nothing was restored"]
    problems += _panel() if arguments.panel else []
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print("The installation works." if not problems else "The installation does not work.")
    return 1 if problems else 0


def _manifest(path: Path) -> list[str]:
    from npe2 import PluginManager, PluginManifest

    PluginManifest.from_file(path).validate_imports()
    manager = PluginManager()
    manager.discover()
    return [] if "napari-restore-rwkv" in manager else ["napari does not find the plugin"]


def _command(*words: str) -> list[str]:
    done = _python("-m", "napari_restore_rwkv", *words, "--json")
    if done.returncode:
        return [_ended(words[0], done)]
    json.loads(done.stdout)
    print(f"{words[0]}: works")
    return []


def _panel() -> list[str]:
    done = _python("-c", PANEL)
    if done.returncode:
        return [_ended("the panel", done)]
    print(done.stdout.strip().splitlines()[-1])
    return []


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", *words], capture_output=True, text=True, timeout=900, check=False)


def _ended(what: str, done: subprocess.CompletedProcess[str]) -> str:
    return f"{what} ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}"


if __name__ == "__main__":
    sys.exit(main())
