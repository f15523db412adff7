"""Temporary folders are removed: at once, or at the next start if their process was killed; never those of others."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import hears_signals

from napari_restore_rwkv.errors import OutputError
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.storage.durable import write_output
from napari_restore_rwkv.storage.temporary import BESIDE, UNPACKED, TemporaryFolder, remove_abandoned

LONG_AGO = 1e9
KILLED = """
import os, signal, sys
from pathlib import Path
from napari_restore_rwkv.storage.temporary import TemporaryFolder
folder = TemporaryFolder(Path(sys.argv[1]))
(folder.path / "voxels").write_bytes(bytes(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""
WAITING = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "print('made', flush=True); sys.stdin.read()")


@pytest.fixture
def left(tmp_path):
    """What a killed process has left, an hour ago."""
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False, timeout=240)
    [folder] = tmp_path.iterdir()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return folder


def test_a_folder_is_removed_with_its_context_or_last_reference(tmp_path):
    with TemporaryFolder(tmp_path) as path:
        (path / "x").write_text("x")
    folder = TemporaryFolder(tmp_path)
    assert folder.path.is_dir()
    del folder
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_go_with_the_next_folder(left, tmp_path):
    with TemporaryFolder(tmp_path):
        assert not left.exists()


def test_leftovers_go_with_the_next_report_that_is_written(left, tmp_path):
    write_output(tmp_path / "report.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_recent_folders_stay(left, tmp_path):
    os.utime(left, (time.time(), time.time()))
    assert remove_abandoned(tmp_path, BESIDE) == 0
    assert left.exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners there")
def test_folders_of_other_users_stay(left, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    assert remove_abandoned(tmp_path, BESIDE) == 0


def test_the_folder_of_a_running_process_stays_however_old(tmp_path):
    command = [sys.executable, "-c", WAITING, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"made\n"
        [folder] = tmp_path.iterdir()
        os.utime(folder, (LONG_AGO, LONG_AGO))
        assert remove_abandoned(tmp_path, BESIDE) == 0
        process.stdin.close()
    assert not folder.exists()


def test_a_folder_that_only_has_such_a_name_stays(tmp_path, left):
    own = tmp_path / ".restore-settings"
    own.mkdir()
    (own / "in_use").write_text("mine")
    linked = tmp_path / ".restore-linked"
    kept = tmp_path.parent / "kept"
    shutil.copytree(left, kept)
    linked.symlink_to(kept)
    for path in (own, kept):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert remove_abandoned(tmp_path, BESIDE) == 1
    assert own.exists()
    assert kept.exists()


def test_one_of_four_writers_of_a_new_file_wins(tmp_path):
    path, told = tmp_path / "new.nii.gz", []
    scans = [Scan(np.full((2, 3, 4), value, np.int16), metadata={"restoration": {"n": value}}) for value in range(4)]
    for scan in scans:
        try:
            write_scan(scan, path, overwrite=False)
        except OutputError as error:
            told.append(str(error))
    assert (read_scan(path).voxels == 0).all()
    assert (tmp_path / "new.nii.gz.json").read_text() == '{\n  "n": 0\n}\n'
    assert len(told) == 3
    assert all("another program has just written a file of that name; choose another" in words for words in told)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["new.nii.gz", "new.nii.gz.json"]


@pytest.mark.slow
def test_four_processes_write_one_new_file_and_three_get_an_error(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from napari_restore_rwkv.scans.files import write_scan\n"
        "from napari_restore_rwkv.scans.scan import Scan\n"
        "from napari_restore_rwkv.errors import OutputError\n"
        "scan = Scan(np.full((2, 3, 4), int(sys.argv[2]), np.int16), metadata={'restoration': {'n': sys.argv[2]}})\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: write_scan(scan, sys.argv[1], overwrite=False)\n"
        "except OutputError as error: print(error)\n"
        "else: print('won', sys.argv[2])"
    )
    path = tmp_path / "new.nii"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    four = [subprocess.Popen([sys.executable, "-c", code, path, str(n)], **pipes) for n in range(4)]
    for process in four:
        assert process.stdout.readline() == "ready\n"
    for process in four:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=240)[0].strip() for process in four]
    [winner] = [words for words in said if words.startswith("won")]
    assert sum("just written a file of that name; choose another" in words for words in said) == 3
    assert (read_scan(path).voxels == int(winner.split()[1])).all()
    assert f'"n": "{winner.split()[1]}"' in (tmp_path / "new.nii.json").read_text()


def test_a_file_system_without_links_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    test_one_of_four_writers_of_a_new_file_wins(tmp_path)


def test_unpacked_scans_of_a_killed_process_go_at_the_next_start_of_the_command(tmp_path, monkeypatch, run):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = KILLED.replace("TemporaryFolder(Path(sys.argv[1]))", f"TemporaryFolder(Path(sys.argv[1]), {UNPACKED!r})")
    subprocess.run([sys.executable, "-c", killed, tmp_path], check=False, timeout=240)
    [folder] = tmp_path.iterdir()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    run("verify", tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_at_once(tmp_path, number):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from napari_restore_rwkv.commands import cli\n"
        "from napari_restore_rwkv.jobs import audit\n"
        "from napari_restore_rwkv.storage.temporary import TemporaryFolder\n"
        "import napari_restore_rwkv.commands.parser as parser\n"
        "def work(arguments):\n"
        "    import time\n"
        "    with TemporaryFolder(Path(sys.argv[1])) as folder:\n"
        "        print('at work', file=sys.stderr, flush=True)\n"
        "        time.sleep(60)\n"
        "build = parser.build_parser\n"
        "class Parser:\n"
        "    def parse_args(self, argv):\n"
        "        arguments = build().parse_args(['verify', 'x'])\n"
        "        arguments.run = work\n"
        "        return arguments\n"
        "cli.build_parser = Parser\n"
        "sys.exit(cli.main([]))"
    )
    command = [sys.executable, "-c", code, tmp_path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_signals) as process:
        assert process.stderr.readline() == "at work\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.stderr.read() == "restore-rwkv: stopped; nothing was written.\n"
        assert process.wait(60) == 128 + number
    assert list(tmp_path.iterdir()) == []
