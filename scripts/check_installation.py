"""Check an installation as a new user would: doctor, manifest, one restoration; exit code 0 if everything works.

It needs nothing but the package, napari and what they need: python scripts/check_installation.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = "pet_low_count.nii.gz"


def main() -> int:
    """Check, and say what was found."""
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
    program = [sys.executable, "-P", "-m", "napari_restore_rwkv", *words, "--json"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        return [f"{words[0]} ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}"]
    json.loads(done.stdout)
    print(f"{words[0]}: works")
    return []


if __name__ == "__main__":
    sys.exit(main())
