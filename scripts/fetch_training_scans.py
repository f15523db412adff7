"""Get every training and validation scan from its package, and check its sha256.

    python scripts/fetch_training_scans.py FOLDER [--from GIVEN]

pip downloads the Python packages from wherever it is configured to, apt-get the Debian one (on Debian and its
descendants). Scans that are already in FOLDER, and correct, are not fetched again. 170 MB are downloaded, 42 MB kept.
Scans that are in no package are taken from a given folder; scripts/training_scans.json names their origin.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Package:
    """A package by name and version, and its source: pip, apt-get, or a given folder."""

    name: str
    version: str
    kind: str  # "sdist", "wheel", "deb" or "given"


@dataclass(frozen=True, slots=True)
class Source:
    """The path of a scan in its package; a member that ends in "/" means the files in that folder.

    The sha256 of a folder is that of its files, concatenated in the order of their names.
    """

    package: Package
    member: str
    sha256: str


RADIOMICS = Package("pyradiomics", "3.0.1", "sdist")
SEGMENTATOR = Package("totalsegmentator", "2.18.0", "sdist")
CORTEX = Package("pycortex", "1.4.0", "sdist")
NILEARN = Package("nilearn", "0.14.1", "wheel")
MRICRON = Package("mricron-data", "", "deb")

_REFERENCES = "totalsegmentator-2.18.0/tests/reference_files"
_MNI = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_TEMPLATES = "./usr/share/mricron/templates"

SCANS = {
    "ct_chest_a.nrrd": Source(
        RADIOMICS,
        "pyradiomics-3.0.1/data/lung1_image.nrrd",
        "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    ),
    "mr_t1gd_brain_d.nrrd": Source(
        RADIOMICS,
        "pyradiomics-3.0.1/data/brain1_image.nrrd",
        "fffdb111ee8b428ede7256707393c927a7d5be912f0604cf3c6f1bd5fc9644cf",
    ),
    "ct_abdomen_c_dicom": Source(
        SEGMENTATOR,
        f"{_REFERENCES}/example_ct_dicom/",
        "8029e094aa3e24ca7c39b5acf697af594b8f56a959a35241c32e5b225bc9277a",
    ),
    "ct_abdomen_c_3mm.nii.gz": Source(
        SEGMENTATOR,
        f"{_REFERENCES}/example_ct.nii.gz",
        "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1",
    ),
    "seg_abdomen_c_organs_3mm.nii.gz": Source(
        SEGMENTATOR,
        f"{_REFERENCES}/example_seg_fast_force_split.nii.gz",
        "e8097758e56e73099075b6caaebce23ef11bc6fad66a4ec3753b9406846558c7",
    ),
    "ct_thorax_b_1p5mm.nii.gz": Source(
        SEGMENTATOR,
        f"{_REFERENCES}/aorta_report/example_ct.nii.gz",
        "372d98723e3283a8d4a0ae2f0ef1e581c0ad17b673b30b2e8d3e215180cc2a12",
    ),
    "mr_t1_head_e_1mm.nii.gz": Source(
        CORTEX,
        "pycortex-1.4.0/filestore/db/S1/anatomicals/raw.nii.gz",
        "1a480d10e8c07fbca58e069efce2a11d477e180beb43f88bdad825b750055a28",
    ),
    "mr_t1_mni152_nilearn_1mm.nii.gz": Source(
        NILEARN, _MNI.format("t1"), "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
    ),
    "seg_gm_mni152_nilearn_1mm.nii.gz": Source(
        NILEARN, _MNI.format("gm"), "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed"
    ),
    "seg_wm_mni152_nilearn_1mm.nii.gz": Source(
        NILEARN, _MNI.format("wm"), "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db"
    ),
    "mr_t1_colin27_1mm.nii.gz": Source(
        MRICRON, f"{_TEMPLATES}/ch2.nii.gz", "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"
    ),
    "mr_t1_inia19_macaque_0p5mm.nii.gz": Source(
        MRICRON,
        f"{_TEMPLATES}/inia19-t1-brain.nii.gz",
        "3f0707f4999a0c6b56d6c9a0145310cba17753e2b4612f577d8dbfe65a89e231",
    ),
}

# Scans that have to be given: by origin, the sha256 of each by name.
GIVEN = json.loads((Path(__file__).parent / "training_scans.json").read_text())
SCANS |= {
    name: Source(Package(origin, "", "given"), name, sha256)
    for origin, scans in GIVEN.items()
    for name, sha256 in scans.items()
}

Download = Callable[[Package, Path], Path]


class FetchError(Exception):
    """A scan could not be fetched; the text says why and what to do."""


def download(package: Package, folder: Path) -> Path:
    """Let pip or apt-get download a package into an empty folder; return its file.

    Raises
    ------
    FetchError
        Neither is available, or it did not find the package.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    wanted = f"{package.name}=={package.version}"
    if package.kind == "deb":
        commands = [["apt-get", "download", package.name]]
    elif package.kind == "wheel":
        commands = [[*pip, "--only-binary", package.name, wanted]]
    else:
        # pip asks a source package for its requirements. Some answer only with the libraries installed here, others
        # only without them.
        commands = [[*pip, *more, "--no-binary", package.name, wanted] for more in ([], ["--no-build-isolation"])]
    for command in commands:
        try:
            done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        except FileNotFoundError as error:
            words = f"{package.name} needs {command[0]}, which is not installed here; fetch it on a Debian system."
            raise FetchError(words) from error
        if done.returncode == 0:
            break
    else:
        last = (done.stderr.strip().splitlines() or ["no further words"])[-1]
        raise FetchError(f"{package.name} could not be downloaded: {last}")
    [file] = folder.iterdir()
    return file


def fetch(
    folder: Path, scans: dict[str, Source] = SCANS, get: Download = download, given: Path | None = None
) -> Iterator[str]:
    """Get the scans that are missing or wrong, package by package; yield a line for each scan.

    Those that are in no package are copied from the folder `given`.

    Raises
    ------
    FetchError
        A package could not be fetched, lacks a file, or contains a wrong one; that scan is not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = {name: source for name, source in scans.items() if digest(folder / name) != source.sha256}
    yield from (f"{name}: there already" for name in scans if name not in missing)
    # In the order of the table; one package may contain several scans.
    for package in dict.fromkeys(source.package for source in missing.values()):
        if package.kind == "given":
            wanted = {name: source for name, source in missing.items() if source.package == package}
            yield from _taken(wanted, package, folder, given)
            continue
        with tempfile.TemporaryDirectory() as name:
            content = read_package(get(package, Path(name)), package.kind)
            for scan, source in missing.items():
                if source.package == package:
                    _write_checked(content, source, folder / scan)
                    yield f"{scan}: fetched from {package.name} {package.version}".rstrip()


def _taken(wanted: dict[str, Source], package: Package, folder: Path, given: Path | None) -> Iterator[str]:
    """Copy scans from the given folder."""
    for name, source in wanted.items():
        if given is None or not (given / name).is_file():
            raise FetchError(
                f"{len(wanted)} scans, {name} among them, come from {package.name}, which no package manager serves: "
                "put them into a folder and give it with --from."
            )
        if digest(given / name) != source.sha256:
            raise FetchError(f"{given / name} does not have the sha256 {source.sha256}; it was not copied.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(given / name, folder / name)
        yield f"{name}: taken from {given}"


def read_package(file: Path, kind: str) -> dict[str, Callable[[], bytes]]:
    """Return a reader for each file of a package, by its path there; nothing is unpacked to disk."""
    if kind == "wheel":
        wheel = zipfile.ZipFile(file)
        return {name: lambda name=name: wheel.read(name) for name in wheel.namelist()}  # type: ignore[misc]
    if kind == "deb":
        # The data of a Debian package is a tar archive of any compression; dpkg-deb knows them all.
        plain = file.with_suffix(".tar")
        with plain.open("wb") as stream:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", file], stdout=stream, check=True)
        file = plain
    archive = tarfile.open(file)  # noqa: SIM115 - read from until the scans are written
    return {
        member.name: lambda member=member: archive.extractfile(member).read()  # type: ignore[misc, union-attr]
        for member in archive
        if member.isfile()
    }


def digest(path: Path) -> str:
    """Sha256 of a file, or of the concatenated files of a folder; "" if there is neither."""
    if not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _write_checked(content: dict[str, Callable[[], bytes]], source: Source, path: Path) -> None:
    whole_folder = source.member.endswith("/")
    names = sorted(name for name in content if name.startswith(source.member)) if whole_folder else [source.member]
    if not names or names[0] not in content:
        raise FetchError(f"{source.package.name} contains no {source.member}; is it another version?")
    files = [content[name]() for name in names]
    found = hashlib.sha256(b"".join(files)).hexdigest()
    if found != source.sha256:
        raise FetchError(
            f"{path.name} from {source.package.name} has sha256 {found}, not {source.sha256}; it was not written."
        )
    if not whole_folder:
        path.write_bytes(files[0])
        return
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    for name, data in zip(names, files, strict=True):
        (path / Path(name).name).write_bytes(data)


def main() -> int:
    """Fetch into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the scans go")
    parser.add_argument(
        "--from", dest="given", type=Path, metavar="GIVEN", help="folder of scans that are in no package"
    )
    chosen = parser.parse_args()
    try:
        for line in fetch(chosen.folder, given=chosen.given):
            print(line, flush=True)
    except FetchError as error:
        print(f"fetch_training_scans: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
