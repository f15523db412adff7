"""The script that gets the training scans, tried on packages made here."""

import hashlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from recipes.table import RECIPES

SCRIPT = Path(__file__).parent.parent / "scripts" / "fetch_training_scans.py"
spec = importlib.util.spec_from_file_location("fetch_training_scans", SCRIPT)
script = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = script
spec.loader.exec_module(script)

SDIST, WHEEL = script.Package("heads", "1.0", "sdist"), script.Package("atlas", "2.0", "wheel")
FILES = {"heads-1.0/data/head.nii": b"a head", "heads-1.0/series/2": b"two", "heads-1.0/series/1": b"one"}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


SCANS = {
    "head.nii": script.Source(SDIST, "heads-1.0/data/head.nii", sha256(b"a head")),
    "series": script.Source(SDIST, "heads-1.0/series/", sha256(b"onetwo")),
    "atlas.nii": script.Source(WHEEL, "atlas/map.nii", sha256(b"a map")),
}


@pytest.fixture
def get():
    """Downloads of two packages that are made on the spot; `get.asked` holds what was asked for."""

    def make(package, folder):
        make.asked.append(package.name)
        if package.kind == "wheel":
            with zipfile.ZipFile(folder / "atlas.whl", "w") as archive:
                archive.writestr("atlas/map.nii", b"a map")
            return folder / "atlas.whl"
        with tarfile.open(folder / "heads.tar.gz", "w:gz") as archive:
            for name, content in make.files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return folder / "heads.tar.gz"

    make.asked, make.files = [], dict(FILES)
    return make


def test_each_scan_is_taken_from_its_package_and_each_package_fetched_once(get, tmp_path):
    lines = list(script.fetch(tmp_path / "scans", SCANS, get))
    assert (tmp_path / "scans" / "head.nii").read_bytes() == b"a head"
    assert (tmp_path / "scans" / "atlas.nii").read_bytes() == b"a map"
    assert sorted(path.name for path in (tmp_path / "scans" / "series").iterdir()) == ["1", "2"]
    assert get.asked == ["heads", "atlas"]
    assert lines[0] == "head.nii: fetched from heads 1.0"


def test_intact_files_are_not_downloaded_again(get, tmp_path):
    list(script.fetch(tmp_path, SCANS, get))
    get.asked.clear()
    assert list(script.fetch(tmp_path, SCANS, get)) == [f"{name}: there already" for name in SCANS]
    assert get.asked == []


def test_only_a_damaged_scan_is_downloaded_again(get, tmp_path):
    list(script.fetch(tmp_path, SCANS, get))
    (tmp_path / "series" / "3").write_bytes(b"stray")
    get.asked.clear()
    list(script.fetch(tmp_path, SCANS, get))
    assert get.asked == ["heads"]
    assert script.digest(tmp_path / "series") == sha256(b"onetwo")


def test_a_file_with_another_digest_is_never_written(get, tmp_path):
    get.files["heads-1.0/data/head.nii"] = b"another head"
    with pytest.raises(script.FetchError, match=rf"head.nii from heads has sha256 .*, not {sha256(b'a head')}"):
        list(script.fetch(tmp_path, SCANS, get))
    assert not (tmp_path / "head.nii").exists()


def test_a_package_without_the_file_is_named(get, tmp_path):
    del get.files["heads-1.0/data/head.nii"]
    with pytest.raises(script.FetchError, match=r"heads contains no heads-1.0/data/head.nii; is it another version"):
        list(script.fetch(tmp_path, SCANS, get))


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="only Debian and its descendants have dpkg-deb")
def test_a_debian_package_is_read(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: atlas\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: none\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "map.nii").write_bytes(b"a map")
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "atlas.deb"], check=True, capture_output=True)
    assert script.read_package(tmp_path / "atlas.deb", "deb")["./usr/map.nii"]() == b"a map"


@pytest.mark.slow
def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    # An index that is not there, so that nothing is asked of the network.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(script.FetchError, match=r"no-such-package could not be downloaded: .*No matching distribution"):
        script.download(script.Package("no-such-package", "0", "wheel"), tmp_path)


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        script.FetchError, match=r"atlas needs apt-get, which is not installed here; fetch it on a Debian system"
    ):
        script.download(script.Package("atlas", "", "deb"), tmp_path)


def test_scans_without_a_package_are_taken_from_a_folder_if_intact(get, tmp_path):
    scans = {"sts/1.nii": script.Source(script.Package("somewhere", "", "given"), "sts/1.nii", sha256(b"uptake"))}
    with pytest.raises(script.FetchError, match=r"1 scans, sts/1.nii among them, come from somewhere, .* --from"):
        list(script.fetch(tmp_path / "scans", scans, get))
    given = tmp_path / "given"
    (given / "sts").mkdir(parents=True)
    (given / "sts" / "1.nii").write_bytes(b"other")
    with pytest.raises(script.FetchError, match="does not have the sha256"):
        list(script.fetch(tmp_path / "scans", scans, get, given))
    (given / "sts" / "1.nii").write_bytes(b"uptake")
    assert list(script.fetch(tmp_path / "scans", scans, get, given)) == [f"sts/1.nii: taken from {given}"]
    assert (tmp_path / "scans" / "sts" / "1.nii").read_bytes() == b"uptake"


def test_the_table_has_every_scan_of_every_recipe():
    wanted = {name for recipe in RECIPES.values() for name in (*recipe.training_scans, *recipe.validation_scans)}
    assert wanted == set(script.SCANS)
    for source in script.SCANS.values():
        assert re.fullmatch("[0-9a-f]{64}", source.sha256)
