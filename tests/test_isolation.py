"""A file beside the scans that has a library's name never runs, however a program of the project is started."""

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from napari_restore_rwkv.isolation import forget_working_folder, python_command, python_environment

PACKAGE = Path(__file__).parent.parent / "napari_restore_rwkv"
LIKE_LIBRARIES = ("torch", "numpy", "safetensors", "zarr", "SimpleITK", "pydicom", "tqdm", "json", "queue", "argparse")


@pytest.fixture
def poisoned(tmp_path):
    """A folder with modules beside a scan that record that they ran."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in LIKE_LIBRARIES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + ' ')\n")
    return folder


@pytest.fixture
def ran(tmp_path):
    return lambda: (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""


def test_the_planted_module_would_be_imported_without_isolation(poisoned, ran):
    subprocess.run([sys.executable, "-c", "import safetensors"], cwd=poisoned, check=True, timeout=240)
    assert ran() == "safetensors "


# What another program left in the environment: an empty entry means the working folder, too.
@pytest.mark.parametrize(
    "python_path", [None, *(pytest.param(path, marks=pytest.mark.slow) for path in ("", os.pathsep, "."))]
)
def test_a_training_process_loads_nothing_from_the_working_folder(poisoned, ran, tmp_path, monkeypatch, python_path):
    from napari_restore_rwkv.training.process import LOG, FineTuneProcess

    if python_path is not None:
        monkeypatch.setenv("PYTHONPATH", python_path)
    monkeypatch.chdir(poisoned)
    process = FineTuneProcess(tmp_path)
    process.start()
    [said] = process.records()
    assert said["kind"] == "error", (tmp_path / LOG).read_text()
    assert "contains no readable fine-tuning run" in said["text"]
    assert ran() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [[sys.executable, "-m", "napari_restore_rwkv"], [str(Path(sysconfig.get_path("scripts")) / "restore-rwkv")]],
    ids=["module", "script"],
)
def test_the_command_line_loads_nothing_from_the_working_folder(poisoned, ran, start):
    command = [*start, "finalize", "absent.ome.zarr"]
    done = subprocess.run(command, cwd=poisoned, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (1, "restore-rwkv: There is no absent.ome.zarr; check the name.\n")
    assert ran() == ""


@pytest.mark.slow
def test_an_empty_entry_of_the_python_path_brings_no_library_into_the_command(poisoned, ran):
    for name in ("json", "argparse", "queue"):
        # Python itself loads these for an editable installation before any code of this project runs.
        (poisoned / f"{name}.py").unlink()
    command = [sys.executable, "-P", "-m", "napari_restore_rwkv", "finalize", "absent.ome.zarr"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep}
    subprocess.run(command, cwd=poisoned, env=environment, capture_output=True, timeout=240, check=False)
    assert ran() == ""


def test_absolute_entries_stay(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(tmp_path), "lib"]))
    assert python_environment()["PYTHONPATH"] == str(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "lib"])
    forget_working_folder()
    assert sys.path == [str(tmp_path)]


@pytest.mark.slow
def test_every_process_that_the_package_starts_is_isolated():
    assert "-P" in python_command("x")
    known = {"process.py": {"Popen"}, "decoding.py": {"Popen"}, "doctor_panel.py": {"run"}}
    starters = {"Popen", "run", "call", "check_output", "check_call", "system", "execv", "spawnv", "Process"}
    for file in sorted(PACKAGE.rglob("*.py")):
        names = set(dotted_names(file))
        if file.name != "isolation.py":
            assert ("sys", "executable") not in names, (
                f"{file} starts a Python of its own; take isolation.python_command"
            )
        started = {(room, what) for room, what in names if room in {"subprocess", "os", "multiprocessing"}}
        found = {what for _, what in started} & starters
        assert found <= known.get(file.name, set()), file


def dotted_names(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
