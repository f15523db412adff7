"""Standard streams that are closed, full, or unable to print a name; a deleted working folder; errors of the system."""

import os
import shlex
import subprocess
import sys

import pytest

COMMAND = shlex.join([sys.executable, "-m", "napari_restore_rwkv"])
SLOW_START = 120  # seconds; loading torch on a busy machine takes a while

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell of Windows has other redirections")


def in_shell(line, folder, **environment):
    # With it, nothing would be left in a buffer that fails again at the end.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        timeout=SLOW_START,
        cwd=folder,
        env={**buffered, **environment},
        check=False,
    )


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_a_command(scan_file, weights_file, tmp_path, closed):
    words = shlex.join([str(scan_file), "out.nii.gz", "--checkpoint", str(weights_file), "--device", "cpu"])
    done = in_shell(f"{COMMAND} restore {words} {closed}", tmp_path)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "out.nii.gz").read_bytes().startswith(b"\x1f\x8b"), "nothing printed went into it"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_stdout_is_told_in_a_sentence(scan_file, tmp_path):
    done = in_shell(f"{COMMAND} inspect {shlex.quote(str(scan_file))} --modality CT >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        b"restore-rwkv: the result is complete, but cannot be printed (no space left on device)."
    )
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2> >(true)"])
def test_notes_without_a_place_stop_nothing(scan_file, weights_file, tmp_path, stderr):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / scan_file.name).write_bytes(scan_file.read_bytes())
    words = f"restore scans results --checkpoint {shlex.quote(str(weights_file))} --device cpu"
    done = in_shell(f"{COMMAND} {words} {stderr}", tmp_path)
    assert (done.returncode, b"1 of 1 scans are done" in done.stdout) == (0, True)
    assert (tmp_path / "results" / scan_file.name).is_file()


def test_a_reader_that_has_gone_is_no_error(scan_file, tmp_path):
    line = f"set -o pipefail; {COMMAND} inspect {shlex.quote(str(scan_file))} --modality CT | true"
    done = in_shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_that_a_stream_cannot_encode_are_escaped(tmp_path):
    done = in_shell(f"{COMMAND} inspect é.nii", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"restore-rwkv: There is no file or folder \\xe9.nii; check the name.\n"


@pytest.mark.parametrize("words", ["inspect a $'\\e]0;owned\\a'", "inspect --debug $'\\e]0;owned\\a'"])
def test_codes_for_the_terminal_are_not_obeyed_in_any_error(tmp_path, words):
    done = in_shell(f"{COMMAND} {words}", tmp_path)
    assert done.returncode in (1, 2)
    assert b"?]0;owned?" in done.stderr
    assert b"\x1b" not in done.stderr
    assert b"\a" not in done.stderr


def test_a_deleted_working_folder_is_told_in_a_sentence(scan_file, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = in_shell(f"rmdir {shlex.quote(str(gone))}; {COMMAND} inspect {shlex.quote(str(scan_file))}", gone)
    assert done.returncode == 1
    assert done.stderr.endswith(b"restore-rwkv: the working folder no longer exists; change to another one.\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/far/away/scan.nii"), "scan.nii cannot be read or written"),
        (OSError(5, "Input/output error"), "A file cannot be read or written"),
    ],
)
def test_errors_of_the_system_are_put_into_words(run, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("napari_restore_rwkv.commands.doctor.examine", fail)
    code, out, err = run("doctor")
    assert (code, out) == (1, "")
    assert err == (f"restore-rwkv: {words} ({error.strerror.lower()}): check its name, its permissions and the disk.\n")
