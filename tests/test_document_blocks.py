"""Every block of code in the documents runs, or is read by what would run it."""

import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace

import pytest
from small_training import write_config, write_pairs
from test_documents import DOCS, PAGES, PROJECT, ROOT, named

from napari_restore_rwkv.commands.cli import main
from napari_restore_rwkv.commands.finetune import fine_tune_from_file
from napari_restore_rwkv.commands.parser import build_parser
from napari_restore_rwkv.errors import ScanError
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.samples import sample_path

KINDS = {"python", "sh", "toml"}
PROGRAMS = ("restore-rwkv", "napari_restore_rwkv")
# Their scans are those of the page, or may be any.
RUN = ("docs/examples/ct.md", "docs/index.md", "docs/reading_a_result.md")


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def with_blocks(kind):
    return [page for page in PAGES if blocks(page, kind)]


def commands(page):
    """The words of every restore-rwkv command of a page; what a shell would put in is 1/8."""
    for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(re.sub(r'"\$[^"]*"', "1/8", line), comments=True)
        # What another program is to run may be one word.
        words = [part for word in words for part in (shlex.split(word) if word.startswith(PROGRAMS) else [word])]
        if begin := [n for n, word in enumerate(words) if word in PROGRAMS and "install" not in words]:
            yield words[begin[0] + 1 :]


def test_every_kind_of_block_is_checked():
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {kind for kind in re.findall(r"^```(\S*)\n(?:.*?\n)*?```$", texts, flags=re.MULTILINE) if kind} == KINDS


def test_the_front_page_and_each_worked_example_have_python():
    shown = {named(page) for page in with_blocks("python")}
    assert {"README.md", "docs/index.md", *(f"docs/examples/{name}.md" for name in ("ct", "mr", "pet"))} <= shown


@pytest.mark.slow
@pytest.mark.parametrize("page", with_blocks("python"), ids=named)
def test_the_python_of_a_page_runs(page, tmp_path):
    """One block after the other in one interpreter, as a reader would type them."""
    if page.name == "training.md":
        write_pairs(tmp_path)
        write_config(tmp_path)
    code = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", with_blocks("sh"), ids=named)
def test_the_commands_of_a_page_are_understood(page):
    assert list(commands(page))
    for words in commands(page):
        assert isinstance(build_parser().parse_args(words), Namespace), words


@pytest.mark.parametrize("page", with_blocks("sh"), ids=named)
def test_the_shell_code_of_a_page_is_valid_and_names_existing_files(page):
    text = "\n".join(blocks(page, "sh"))
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    assert [name for name in re.findall(r"(?:scripts|configs)/[\w./]+", text) if not (ROOT / name).exists()] == []
    extras = {
        extra for group in re.findall(r"(?:napari-restore-rwkv|\.)\[([\w,]+)\]", text) for extra in group.split(",")
    }
    assert extras <= set(PROJECT["optional-dependencies"])


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Two slices of the samples, under the names that the pages use."""
    series = tmp_path / "ct_abdomen_dicom"
    series.mkdir()
    for name in ("0009.dcm", "0010.dcm"):
        shutil.copy(sample_path("ct_abdomen_dicom") / name, series)
    noisy, good = read_scan(sample_path("ct_abdomen_quarter_dose.nii.gz"), modality="CT"), read_scan(series)
    first = round(abs(good.origin_mm[2] - noisy.origin_mm[2]) / noisy.spacing_mm[0])
    for name in ("ct_abdomen_quarter_dose", "quarter_dose", "scan"):
        write_scan(good.with_voxels(noisy.voxels[first : first + 2]), tmp_path / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_one_after_the_other(page, tmp_path):
    if page == "docs/reading_a_result.md":
        shutil.copy(tmp_path / "scan.nii.gz", tmp_path / "noisy.nii.gz")
        assert main(["restore", "noisy.nii.gz", "restored.nii.gz", "--classical"]) == 0
    for words in commands(ROOT / page):
        assert main(words) == 0, words


@pytest.mark.parametrize("page", with_blocks("toml"), ids=named)
def test_a_configuration_of_a_page_is_read_up_to_the_scans_that_it_names(page, tmp_path):
    for text in blocks(page, "toml"):
        path = tmp_path / "ours.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ScanError, match=r"There is no file or folder .*low_dose\.nii\.gz"):
            fine_tune_from_file(Namespace(config=path, device="cpu"))


def test_the_batch_script_uses_known_slurm_options():
    known = {"job-name", "array", "cpus-per-task", "mem", "time", "requeue"}
    asked = set(re.findall(r"^#SBATCH --([\w-]+)", "".join(blocks(DOCS / "scale_out.md", "sh")), re.MULTILINE))
    assert asked == known
