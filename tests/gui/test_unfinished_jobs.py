"""An unfinished job is offered, and resumes as if nothing had happened."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from file_jobs import EVERYTHING, SLICES, chest, chest_layer, shards, undisturbed
from napari.layers import Layer
from scans.dicoms import CORNER, GAP, NORMAL, write_slice

from napari_restore_rwkv.gui import contributions
from napari_restore_rwkv.gui.restore.unfinished_jobs import UnfinishedJobs
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.jobs.lock import coordinating
from napari_restore_rwkv.network.checkpoint import save_checkpoint
from napari_restore_rwkv.progress import Phase, Progress, finish
from napari_restore_rwkv.scans.files import read_scan, write_scan
from napari_restore_rwkv.scans.scan import to_canonical

pytestmark = pytest.mark.slow

OFFER = "Unfinished: chest restored.ome.zarr, 16 of 40 slices"


@pytest.fixture
def scan_path(tmp_path):
    """The chest in a file."""
    path = tmp_path / "chest.mha"
    write_scan(chest(), path)
    return path


@pytest.fixture
def panel(viewer, make_file_panel):
    """A panel without a scan, as at the start of the viewer."""
    return make_file_panel(viewer)


@pytest.fixture
def cancelled(viewer, make_file_panel, weights_file, output, scan_path, qtbot, gate):
    """A job of another panel that was cancelled after 19 slices; its layers are gone."""
    viewer.add_layer(Layer.create(*chest_layer(path=scan_path)))
    first = make_file_panel(viewer)
    first.form.weights.use_file(weights_file)
    first.form.region.value = "volume"
    first.form.output.value = output
    gate.allowed = 19
    first.restore()
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    first.cancel()
    qtbot.waitUntil(lambda: not first.job.running, timeout=20_000)
    first.shut_down()
    viewer.layers.clear()
    gate.allowed = EVERYTHING
    return output


@pytest.fixture
def found(monkeypatch, qtbot):
    """Wait until a new panel has looked for jobs; return how many it found."""
    finds, show = {}, UnfinishedJobs._show

    def note(lines, jobs):
        finds[lines] = len(jobs)
        show(lines, jobs)

    monkeypatch.setattr(UnfinishedJobs, "_show", note)

    def wait(panel):
        qtbot.waitUntil(lambda: panel.unfinished in finds)
        return finds[panel.unfinished]

    return wait


def offered(panel, qtbot):
    """Wait for the only offer, and return its line."""
    qtbot.waitUntil(lambda: len(panel.unfinished.lines) == 1, timeout=5000)
    return panel.unfinished.lines[0]


def wait_until_over(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.job.running, timeout=20_000)


def test_without_unfinished_jobs_there_is_no_line(found, panel):
    assert found(panel) == 0
    assert panel.unfinished.isHidden()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_job_is_offered_and_finished_bit_for_bit(
    viewer, make_file_panel, output, scan_path, weights_file, found, qtbot, tmp_path
):
    command = [sys.executable, Path(__file__).parent / "killed_panel.py", scan_path, weights_file, output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        alive = make_file_panel(viewer)
        assert found(alive) == 0
        assert alive.unfinished.isHidden(), "a living process is at work on it"
        process.kill()
        assert said == "waiting\n", process.stderr.read()

    panel = make_file_panel(viewer)
    line = offered(panel, qtbot)
    assert line.text.text() == OFFER
    assert not panel.unfinished.isHidden()
    line.resume.click()
    qtbot.waitUntil(lambda: panel.job.running, timeout=10_000)
    wait_until_over(qtbot, panel)
    assert panel.message.text().endswith("checked and saved in chest restored.ome.zarr.")
    assert [layer.name for layer in viewer.layers] == ["chest", "chest [restored]", "chest [restored - input]"]
    [(data, _, _)] = contributions.read(str(scan_path))
    expected = undisturbed(tmp_path / "other.ome.zarr", weights_file, chest().with_voxels(data))
    assert np.array_equal(viewer.layers["chest [restored]"].data[:], expected)
    assert shards(output) == shards(tmp_path / "other.ome.zarr")
    assert finish(verify(output)).sound
    qtbot.waitUntil(lambda: panel.unfinished.isHidden())


def test_a_cancelled_job_is_offered_again_and_takes_the_scan_that_is_open(
    viewer, make_file_panel, cancelled, scan_path, qtbot, gate
):
    viewer.add_layer(Layer.create(*chest_layer(path=scan_path)))
    viewer.add_image(np.zeros((4, 8, 8)), name="another")
    panel = make_file_panel(viewer)
    line = offered(panel, qtbot)
    assert line.text.text() == OFFER
    assert line.resume.toolTip() == "<qt>Open chest.mha and continue</qt>"
    gate.order.clear()
    line.resume.click()
    assert panel.form.layer.value.name == "chest"
    assert panel.form.region.value == "volume"
    assert panel.form.output.value == cancelled
    qtbot.waitUntil(panel.unfinished.isHidden)
    wait_until_over(qtbot, panel)
    assert len(gate.order) == 24
    assert len(viewer.layers) == 4
    assert finish(verify(cancelled)).sound


@pytest.fixture
def cancelled_again(viewer, make_file_panel, cancelled, qtbot, gate):
    """A panel that resumed the cancelled job and was cancelled again."""
    gate.allowed = len(gate.order) + 3
    panel = make_file_panel(viewer)
    gate.waiting.clear()
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3)
    panel.cancel()
    wait_until_over(qtbot, panel)
    return panel


def test_a_resumed_job_that_is_cancelled_again_is_continued_by_restore(viewer, cancelled_again, qtbot, gate):
    panel = cancelled_again
    assert panel.message.text().endswith("slices are saved in chest restored.ome.zarr; Restore continues.")
    gate.allowed = EVERYTHING
    panel.restore()
    wait_until_over(qtbot, panel)
    assert panel.message.text().endswith("checked and saved in chest restored.ome.zarr.")
    assert len(viewer.layers) == 3


def test_a_job_that_restore_continues_is_not_offered_twice(cancelled_again, qtbot):
    qtbot.waitUntil(cancelled_again.unfinished.isHidden)


def test_a_forgotten_job_is_not_offered_again_and_its_file_stays(viewer, make_file_panel, cancelled, found, qtbot):
    panel = make_file_panel(viewer)
    offered(panel, qtbot).forget.click()
    qtbot.waitUntil(panel.unfinished.isHidden)
    again = make_file_panel(viewer)
    assert found(again) == 0
    assert again.unfinished.isHidden()
    assert len(Ledger(cancelled).done()) == 4


def test_a_job_that_another_process_works_on_is_not_offered(viewer, make_file_panel, cancelled, found):
    with coordinating(Ledger(cancelled).folder, cancelled.name):
        panel = make_file_panel(viewer)
        assert found(panel) == 0
        assert panel.unfinished.isHidden()


def test_another_scan_in_the_same_file_is_refused_with_the_difference(viewer, panel, cancelled, scan_path, qtbot):
    scan = chest()
    write_scan(scan.with_voxels(scan.voxels[::-1].copy()), scan_path)
    panel.unfinished.look()
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(lambda: panel.job.running, timeout=10_000)
    wait_until_over(qtbot, panel)
    words = panel.message.text()
    assert words.startswith("chest restored.ome.zarr was started as a different job (input sha256: ")
    assert words.endswith("use the original settings, or start over with a new output.")
    assert [layer.name for layer in viewer.layers] == ["chest"]
    qtbot.waitUntil(lambda: len(panel.unfinished.lines) == 1)


def test_other_weights_in_the_same_file_are_refused_with_the_difference(
    panel, cancelled, weights_file, tiny_network, qtbot
):
    tiny_network.output.weight.data += 0.001
    save_checkpoint(tiny_network, tiny_network.card, weights_file)
    panel.unfinished.look()
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(lambda: panel.job.running, timeout=10_000)
    wait_until_over(qtbot, panel)
    assert "was started as a different job (model sha256: " in panel.message.text()


def test_a_scan_that_no_longer_exists_is_reported_with_a_remedy(panel, cancelled, scan_path, qtbot):
    scan_path.unlink()
    panel.unfinished.look()
    offered(panel, qtbot).resume.click()
    assert panel.message.text() == f"{scan_path} does not exist: put the scan back there, then press Resume again."
    assert panel.restore_button.isEnabled()
    assert panel.unfinished.isEnabled()


def test_a_damaged_scan_is_reported_in_a_sentence(panel, cancelled, scan_path, qtbot):
    scan_path.write_bytes(b"no scan")
    panel.unfinished.look()
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(lambda: panel.message.text().startswith("chest.mha cannot be read"), timeout=5000)
    assert panel.restore_button.isEnabled()


def test_a_job_without_a_scan_file_uses_the_chosen_layer(viewer, make_file_panel, weights_file, output, qtbot, gate):
    layer = viewer.add_layer(Layer.create(*chest_layer()))
    first = make_file_panel(viewer)
    first.form.weights.use_file(weights_file)
    first.form.region.value = "volume"
    first.form.output.value = output
    gate.allowed = 19
    first.restore()
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    first.cancel()
    wait_until_over(qtbot, first)
    first.shut_down()
    viewer.layers.clear()
    gate.allowed = EVERYTHING

    panel = make_file_panel(viewer)
    line = offered(panel, qtbot)
    line.resume.click()
    assert panel.message.text() == "Open the scan that chest restored.ome.zarr was started with, then press Resume."
    viewer.add_layer(layer)
    line.resume.click()
    wait_until_over(qtbot, panel)
    assert panel.message.text().endswith("checked and saved in chest restored.ome.zarr.")


def test_the_opening_of_a_scan_can_be_cancelled(viewer, panel, cancelled, qtbot, monkeypatch):
    going = threading.Event()

    def slowly(path, options):
        while True:
            going.set()
            yield Progress(Phase.UNPACKING, 3, 10, detail="chest.mha")

    monkeypatch.setattr("napari_restore_rwkv.scans.opening.opening", slowly)
    panel.unfinished.look()
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(lambda: panel.message.text() == "unpacking chest.mha: slice 3 of 10 ...")
    assert not panel.restore_button.isEnabled()
    panel.restore()
    assert panel.message.text() == "A scan is being opened: wait for it, or press Cancel."
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: panel.message.text() == "The scan was not opened; Resume tries again.", timeout=5000)
    assert (panel.restore_button.isEnabled(), panel.cancel_button.isEnabled()) == (True, False)
    assert len(viewer.layers) == 0


def test_a_job_of_one_of_several_series_finds_it_again(
    viewer, make_file_panel, weights_file, output, tmp_path, qtbot, gate
):
    """Two series of two echoes lie in one folder; the second echo of the second series was restored."""
    voxels = np.random.default_rng(4).integers(800, 1300, (2, 2, SLICES, 16, 18), dtype=np.uint16)
    folder = tmp_path / "study"
    folder.mkdir()
    for series, echo, z in np.ndindex(2, 2, SLICES):
        tags = {"SeriesInstanceUID": f"1.2.{series}", "EchoTime": 10.0 * (1 + echo), "Modality": "CT"}
        write_slice(folder / f"{series}{echo}{z}.dcm", voxels[series, echo, z], CORNER + z * GAP * NORMAL, **tags)

    def layers():
        return [Layer.create(*one) for one in contributions.read(str(folder))]

    viewer.add_layer(layers()[1])
    first = make_file_panel(viewer)
    first.form.weights.use_file(weights_file)
    first.form.region.value = "volume"
    first.form.time_index.value = 1
    first.form.output.value = output
    gate.allowed = 19
    first.restore()
    qtbot.waitUntil(gate.waiting.is_set, timeout=20_000)
    first.cancel()
    qtbot.waitUntil(lambda: not first.job.running, timeout=20_000)
    first.shut_down()
    viewer.layers.clear()
    gate.allowed = EVERYTHING
    panel = make_file_panel(viewer)
    offered(panel, qtbot).resume.click()
    qtbot.waitUntil(lambda: panel.job.running, timeout=10_000)
    wait_until_over(qtbot, panel)
    assert panel.message.text().endswith(f"checked and saved in {output.name}.")
    assert np.array_equal(viewer.layers[0].data, to_canonical(read_scan(folder, series="2", time_index=1)).voxels)
