"""The documents: links have targets, lists are complete, and the metadata agree."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import napari_restore_rwkv
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("[!.]*/README.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
README_LINES = 120

SCRIPT = importlib.util.spec_from_file_location("list_messages", ROOT / "scripts" / "list_messages.py")
list_messages = importlib.util.module_from_spec(SCRIPT)
# Its dataclass looks its module up.
sys.modules["list_messages"] = list_messages
SCRIPT.loader.exec_module(list_messages)


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_targets_of_links_exist(page):
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_of_the_documentation_is_in_its_table_of_contents():
    # The theme's own tags are not YAML; only the nav matters.
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r":\s(\S+\.md)$", text, flags=re.MULTILINE))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_every_public_name_is_in_the_python_interface():
    told = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)}
    assert set(napari_restore_rwkv.__all__) - {"__version__"} <= told


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < README_LINES


@pytest.fixture(scope="module")
def messages():
    return list_messages.messages(ROOT)


@pytest.mark.slow
def test_messages_are_found_in_the_sources_with_placeholders(messages):
    texts = [message.text for message in messages]
    assert any(text.startswith('There is no sample scan "…"; ') for text in texts)
    assert "Open a scan first: File > Open, or File > Open Sample > Restore-RWKV." in texts
    assert len(messages) > 400
    assert {"scans", "network", "restoration", "jobs", "gui", "commands"} <= {message.room for message in messages}


@pytest.mark.slow
def test_every_error_message_in_the_sources_is_in_the_table():
    assert list_messages.without_words(ROOT) == []


BROKEN = {
    "cut.nii": b"\x5c\x01\x00\x00" + bytes(60),
    "cut.nii.gz": b"\x1f\x8b\x08\x00junk",
    "empty.mha": b"",
    "wrong.nrrd": b"NRRD0004\ntype: colour\ndimension: 3\n\n",
    "wrong.mha": b"ObjectType = Image\nNDims = 3\nDimSize = 0 4 4\nElementDataFile = LOCAL\n",
    "broken.tif": b"II*\x00\xff\xff\xff\xff",
    "broken.h5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "notes.txt": b"hello",
    "slice.dcm": bytes(200),
    "absent.nii": None,
}


@pytest.mark.parametrize("name", BROKEN)
def test_messages_about_broken_files_are_in_the_table(messages, tmp_path, name):
    if (content := BROKEN[name]) is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError) as refused:
        read_scan(tmp_path / name)
    patterns = [".*".join(map(re.escape, one.text.split("…"))) for one in messages if len(one.text) > 30]
    assert [pattern for pattern in patterns if re.fullmatch(pattern, str(refused.value), re.DOTALL)], refused.value


def test_a_message_is_shown_in_a_table_as_it_is(messages):
    shown = list_messages.table([one for one in messages if one.text.startswith("Open a scan first")])
    assert r"| Open a scan first: File \> Open, or File \> Open Sample \> Restore-RWKV. | ScanError |" in shown


def test_the_versions_agree():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert cited["version"] == PROJECT["version"]
    assert PROJECT["version"].partition(".dev")[0] == newest


def test_the_tests_run_on_every_supported_python():
    label = "Programming Language :: Python :: 3."
    promised = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith(label)}
    job = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]["suite"]
    matrix = job["strategy"]["matrix"]
    assert {*matrix["python"], *(one["python"] for one in matrix["include"])} == promised
    assert matrix["qt"] == ["pyqt6", "pyside6"]


def test_the_tests_run_with_the_oldest_napari_that_is_allowed():
    required = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["pyqt6"]]
    required += PROJECT["optional-dependencies"]["pyside6"]
    oldest = {re.fullmatch(r"napari(?:\[\w+\])?>=(\S+)", one)[1] for one in required if one.startswith("napari")}
    job = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]["suite"]
    assert {one["napari"] for one in job["strategy"]["matrix"]["include"]} - {"newest"} == oldest


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=named)
def test_every_file_that_a_workflow_runs_exists(workflow):
    text = workflow.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    scripts = re.findall(r"(?:source/)?(scripts/[\w./]+)", text)
    assert [script for script in scripts if not (ROOT / script).exists()] == []
    extras = {extra for group in re.findall(r"\.\[([\w,-]+)\]", text) for extra in group.split(",")}
    assert extras <= set(PROJECT["optional-dependencies"])
