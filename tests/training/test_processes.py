"""Several processes, started by torchrun, train one network."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil
import pytest
import torch
from command_line import hears_signals
from small_training import write_config, write_pairs

from napari_restore_rwkv.commands.cli import main
from napari_restore_rwkv.network.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun's processes are ended by signals"),
]


@pytest.fixture
def start(tmp_path):
    """Start a training with two processes; those that remain at the end are killed."""
    write_pairs(tmp_path)
    # The folder in which they start has files named like libraries, which must not run.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("importlib", "json", "numpy", "torch", "safetensors", "sitecustomize"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit('a file beside the scans ran')\n")
    scripts, started = Path(sysconfig.get_path("scripts")), []

    def begin(config):
        torchrun = [scripts / "torchrun", "--standalone", "--nproc-per-node", "2"]
        started.append(
            subprocess.Popen(
                [*torchrun, "--no-python", scripts / "restore-rwkv", "train", str(config)],
                cwd=elsewhere,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=hears_signals,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            process.wait()


def weights_of(folder):
    return load_checkpoint(folder / "ours.restorerwkv", fused=False).state_dict()


def test_two_processes_do_what_one_does_with_twice_the_batch(start, tmp_path):
    job = start(write_config(tmp_path, batch=2))
    _, errors = job.communicate()
    assert job.returncode == 0, errors
    two = weights_of(tmp_path)
    (tmp_path / "ours.restorerwkv").unlink()
    assert main(["train", str(write_config(tmp_path, batch=4, folder='"other"'))]) == 0
    one = weights_of(tmp_path)
    for name, value in one.items():
        assert torch.linalg.vector_norm(two[name] - value) <= 1e-6 * torch.linalg.vector_norm(value), name


def test_a_killed_process_ends_the_training_which_can_be_resumed(start, tmp_path):
    config = write_config(tmp_path, steps=10_000, score_every=10_000)
    job = start(config)
    while not (tmp_path / "state" / "state.pt").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    ranks = [
        one for one in psutil.Process(job.pid).children() if one.environ().get("RANK") and "train" in one.cmdline()
    ]
    assert len(ranks) == 2
    next(one for one in ranks if one.environ()["RANK"] == "1").send_signal(signal.SIGKILL)
    _, errors = job.communicate()
    assert job.returncode != 0
    assert "Another process of this training has ended" in errors or "continues from the last saved step" in errors
    assert not (tmp_path / "ours.restorerwkv").exists()
    done = torch.load(tmp_path / "state" / "state.pt", weights_only=True)["step"]
    assert done >= 1
    # The schedule belongs to the training, and a few more steps are enough: it is stopped again at a later one.
    again = start(config)
    while torch.load(tmp_path / "state" / "state.pt", weights_only=True)["step"] <= done:
        assert again.poll() is None, again.communicate()
        time.sleep(0.1)
