"""A signal between any two lines of the package leaves a whole file with its record, or none, and no folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from command_line import hears_signals

import napari_restore_rwkv
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.scans.export import export_scan
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.storage.uninterrupted import interrupt, uninterrupted

PACKAGE = Path(napari_restore_rwkv.__file__).parent
# Where files are made, moved and removed.
WATCHED = (str(PACKAGE / "storage"), str(PACKAGE / "scans" / "writing.py"), str(PACKAGE / "scans" / "export.py"))


def scan_of(value):
    return Scan(np.full((3, 4, 5), value, np.int16), modality="CT", metadata={"restoration": {"n": value}})


def interrupted_at(line, work):
    """Run until so many lines that move files were run, then interrupt as a signal does; return whether it ended."""
    left = [line]

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                interrupt()
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(None)
    return left[0] > 0


@pytest.mark.slow
@pytest.mark.skipif(sys.gettrace() is not None, reason="something else traces, such as the measuring of coverage")
@pytest.mark.parametrize(
    ("name", "large", "replaces"), [("a.nii", None, False), ("a.mhd", None, True), ("a.nii", 0, True)]
)
def test_a_scan_and_its_record_are_written_together(tmp_path, name, large, replaces):
    path = tmp_path / name
    expected = {name, f"{name}.json"} | ({"a.raw"} if name.endswith(".mhd") else set())

    def work():
        if large is None:
            write_scan(scan_of(2), path, overwrite=replaces)
        else:
            finish(export_scan(scan_of(2), path, large=large, overwrite=replaces))

    for line in range(1, 2000):
        for file in tmp_path.iterdir():
            file.unlink()
        if replaces:
            write_scan(scan_of(1), path)
        ended = interrupted_at(line, work)
        # A folder still there is marked, and removed by the next program.
        names = {file.name for file in tmp_path.iterdir() if not (file.name.startswith(".") and left_marked(file))}
        assert names in ((expected,) if replaces else (expected, set())), line
        if names:
            value = int(read_scan(path).voxels[0, 0, 0])
            assert json.loads((tmp_path / f"{name}.json").read_text())["n"] == value, line
            assert value == 2 or not ended
        if ended:
            return
    raise AssertionError("it never came to its end")


def left_marked(folder):
    """Whether a temporary folder would be removed at the next start; it is removed here."""
    marked = (folder / "in_use").is_file()
    shutil.rmtree(folder)
    return marked


def test_an_interrupt_waits_for_the_end_of_the_outermost_section():
    done = []

    def work():
        with uninterrupted():
            with uninterrupted():
                interrupt()
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_section_of_another_thread_keeps_no_interrupt_from_the_main_one():
    inside, go_on = threading.Event(), threading.Event()

    def work():
        with uninterrupted():
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    go_on.set()
    thread.join()


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_by_a_signal_after_its_section(number):
    code = (
        "import os, sys\n"
        "from napari_restore_rwkv.commands.signals import ending_by_signals\n"
        "from napari_restore_rwkv.storage.uninterrupted import uninterrupted\n"
        "with ending_by_signals() as received:\n"
        "    try:\n"
        "        with uninterrupted():\n"
        "            os.kill(os.getpid(), int(sys.argv[1]))\n"
        "            print('moved')\n"
        "        print('went on')\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped', received)\n"
    )
    command = [sys.executable, "-c", code, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=hears_signals, check=False)
    assert done.stdout == f"moved\nstopped {[int(number)] if number == signal.SIGTERM else []}\n"
