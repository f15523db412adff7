"""The house rules: who imports whom, what an import costs, what is installed, what the README promises."""

import ast
import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import napari_restore_rwkv
from napari_restore_rwkv.network import cuda_compiler

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "napari_restore_rwkv"

EVERYBODY = {
    "cancellation",
    "errors",
    "isolation",
    "progress",
    "storage",
    "tasks",
    "threads",
    "untrusted",
    "user_folder",
}

# Package -> the packages of this project that it may import, besides itself and those open to all.
MAY_IMPORT = {
    "cancellation": set(),
    "errors": set(),
    "isolation": set(),
    "progress": set(),
    "storage": set(),
    "tasks": set(),
    "threads": set(),
    "untrusted": set(),
    "user_folder": set(),
    "device": set(),
    "front_door": {"network", "restoration", "scans", "device", "gui"},
    "metrics": set(),
    "network": set(),
    "scans": {"isolation"},
    "simulate": {"scans"},
    "restoration": {"network", "scans", "device"},
    "jobs": {"restoration", "network", "scans", "device"},
    "training": {"restoration", "network", "scans", "simulate", "metrics", "device"},
    "image_quality": {"restoration", "network", "scans", "simulate", "metrics"},
    "reliability": {"restoration", "network", "scans", "image_quality", "metrics", "device"},
    "commands": {
        "network",
        "scans",
        "simulate",
        "metrics",
        "device",
        "restoration",
        "jobs",
        "image_quality",
        "reliability",
        "training",
    },
    "gui": {"network", "scans", "simulate", "metrics", "device", "restoration", "jobs", "reliability", "training"},
    "__main__": {"commands"},
    # The menu of public names: it imports a room only when a name is used.
    "__init__": {"network", "scans", "metrics", "restoration", "jobs", "training", "front_door"},
}

VIEWER_LIBRARIES = {"napari", "qtpy", "magicgui", "superqt", "pyqtgraph", "vispy", "PyQt6", "PySide6"}
WITHOUT_TORCH = EVERYBODY - {"threads"} | {"metrics", "scans"}


def room_of(path):
    """The package that a file belongs to: its folder, or its own name at the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


@functools.cache
def statements_of(path):
    """Every node of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports_of(path):
    """Every module that a file imports, anywhere in it, as absolute dotted names."""
    here = ("napari_restore_rwkv", *path.relative_to(PACKAGE).parts[:-1])
    for node in statements_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            # "from . import x" names modules; "from .x import y" may name either.
            yield from (
                (f"{module}.{alias.name}" for alias in node.names)
                if module
                in {
                    "napari_restore_rwkv",
                    ".".join(here),
                }
                else (module,)
            )


def python_files():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def our_rooms(path):
    """The project's packages that a file imports; public names of the top-level package do not count."""
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "napari_restore_rwkv" and len(parts) > 1 and parts[1] in MAY_IMPORT:
            yield parts[1]


def test_every_package_is_in_the_table():
    assert {room_of(path) for path in python_files()} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_what_the_table_allows(path):
    room = room_of(path)
    assert set(our_rooms(path)) <= MAY_IMPORT[room] | EVERYBODY | {room}


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_gui_imports_the_viewer_and_scans_need_no_torch(path):
    room, libraries = room_of(path), {name.split(".")[0] for name in imports_of(path)}
    if room != "gui":
        assert not libraries & VIEWER_LIBRARIES
    if room in WITHOUT_TORCH:
        assert "torch" not in libraries


def files_imported_by(path):
    """The project's files that a file imports at run time, at its head or in a function; not those for types only."""
    here, nodes = path.relative_to(PACKAGE).parts[:-1], statements_of(path)
    for_types = [node for node in nodes if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    left_out = {inner for node in for_types for inner in ast.walk(node)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level and node not in left_out:
            base = PACKAGE.joinpath(*here[: len(here) - node.level + 1], *(node.module or "").split("."))
            modules = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
            yield from (module for module in modules if module.is_file())


def test_no_two_files_import_each_other():
    graph = {path: set(files_imported_by(path)) for path in python_files()}
    assert sum(map(len, graph.values())) > 500, "the imports are found"
    pairs = {frozenset((one, other)) for one, others in graph.items() for other in others if one in graph[other]}
    assert [sorted(str(path.relative_to(PACKAGE)) for path in pair) for pair in pairs] == []


def lines_without_docstring(function):
    """How many lines a function has, its docstring left out: that is as long as its parameters are many."""
    docstring = function.body[0] if ast.get_docstring(function, clean=False) is not None else None
    return length_of(function) - (length_of(docstring) if docstring is not None else 0)


def length_of(node):
    return node.end_lineno - node.lineno + 1


def test_no_file_has_more_than_350_lines():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_no_function_has_more_than_60_lines():
    functions = [
        (f"{path.relative_to(PACKAGE)}: {node.name}", lines_without_docstring(node))
        for path in python_files()
        for node in statements_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000, "the functions are found"
    assert [(name, length) for name, length in functions if length > 60] == []


def test_errors_and_progress_import_nothing_from_this_project():
    assert not [*our_rooms(PACKAGE / "errors.py"), *our_rooms(PACKAGE / "progress.py")]


def run_python(code, **options):
    """Run code in a fresh interpreter; return its stdout."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_no_heavy_library():
    loaded = run_python("import sys, napari_restore_rwkv; print(*sys.modules)").split()
    assert not {"torch", "numpy", "SimpleITK", "zarr", *VIEWER_LIBRARIES} & set(loaded)


def test_the_command_line_answers_help_without_heavy_libraries():
    code = (
        "import sys, contextlib\n"
        "from napari_restore_rwkv.commands.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['restore', '--help'])\n"
        "print('LOADED', *sys.modules)"
    )
    loaded = run_python(code).split("LOADED")[1].split()
    assert not {"torch", "numpy", "SimpleITK", *VIEWER_LIBRARIES} & set(loaded)


def test_a_scan_that_is_not_dicom_opens_without_pydicom():
    sample = ROOT / "sample_data" / "mr_t1_half_resolution.nii.gz"
    code = (
        "import sys, napari_restore_rwkv.commands.restore, napari_restore_rwkv.scans.frames\n"
        "from pathlib import Path\n"
        "from napari_restore_rwkv.progress import finish\n"
        f"finish(napari_restore_rwkv.scans.frames.opening_all(Path({str(sample)!r})))\n"
        "print(*sys.modules)"
    )
    assert not {"pydicom", *VIEWER_LIBRARIES} & set(run_python(code).split())


def test_the_public_names_are_sorted_and_exist():
    names = napari_restore_rwkv.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(napari_restore_rwkv, name) is not None
    assert set(names) <= set(dir(napari_restore_rwkv))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'napari_restore_rwkv' has no attribute 'nothing'"):
        _ = napari_restore_rwkv.nothing


def test_the_version_is_that_of_the_distribution():
    assert napari_restore_rwkv.__version__ == importlib.metadata.version("napari-restore-rwkv")


@pytest.mark.slow
def test_the_core_works_without_a_viewer():
    code = (
        "import sys\n"
        "for name in ('napari', 'qtpy', 'magicgui', 'superqt', 'pyqtgraph', 'PyQt6'): sys.modules[name] = None\n"
        "import napari_restore_rwkv as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        "import napari_restore_rwkv.commands.restore, napari_restore_rwkv.commands.doctor\n"
        "import numpy as np\n"
        "image = np.arange(400.0).reshape(20, 20)\n"
        "print(package.evaluate(image, image).slices[0].ssim)"
    )
    assert run_python(code).strip() == "1.0"


def test_the_installed_manifest_is_that_of_the_repository():
    entry = next(
        entry
        for entry in importlib.metadata.entry_points(group="napari.manifest")
        if entry.name == "napari-restore-rwkv"
    )
    files = importlib.metadata.files("napari-restore-rwkv") or []
    installed = [file for file in files if file.name == "napari.yaml"]
    assert entry.value == "napari_restore_rwkv:napari.yaml"
    assert len(installed) == 1
    assert Path(installed[0].locate()).read_bytes() == (ROOT / "napari.yaml").read_bytes()


@pytest.mark.slow
def test_a_wheel_holds_kernels_manifest_samples_and_weights_and_runs_alone(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # The scripts of cmake and ninja lie beside the interpreter, which need not be on the path.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", ".venv*", "build", "training_state", "demo_output", "__pycache__"),
    )
    subprocess.run([*build, "-w", tmp_path, source], check=True, env={**os.environ, "PATH": path}, timeout=300)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "alone")
    code = (
        "import napari_restore_rwkv as package\n"
        "from napari_restore_rwkv import load_checkpoint\n"
        "from napari_restore_rwkv.network.bi_wkv import kernel_in_use\n"
        "from napari_restore_rwkv.network.cuda_compiler import source\n"
        "from napari_restore_rwkv.scans.samples import sample_path\n"
        "from npe2 import PluginManifest\n"
        "manifest = PluginManifest.from_file(package.__path__[0] + '/napari.yaml')\n"
        "print(package.__path__[0], sample_path('ct_abdomen_dicom'), manifest.name, sep='\\n')\n"
        "print(kernel_in_use('cpu').name, load_checkpoint('ct-denoise').card.task, sep='\\n')\n"
        "print(len(source()))"
    )
    # -S leaves the editable installation out, which hooks itself in when Python starts.
    folders = [str(tmp_path / "alone"), sysconfig.get_paths()["purelib"]]
    answer = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {folders}\n{code}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    place, sample, name, kernel, task, length = answer.stdout.split("\n")[:6]
    assert place == str(tmp_path / "alone" / "napari_restore_rwkv")
    assert sample.startswith(place)
    assert Path(place, "py.typed").is_file()
    assert not Path(place, "training", "recipes").exists(), "they need scans that no package holds"
    assert (name, task) == ("napari-restore-rwkv", "ct-denoise")
    assert kernel.startswith("compiled CPU kernel")
    assert int(length) == len(cuda_compiler.source())


def test_the_names_of_tests_stay_below_80_characters():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    names = [name for file in files for name in re.findall(r"^ *def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)]
    assert len(names) > 1000, "the tests are found"
    assert [name for name in names if len(name) >= 80] == []
