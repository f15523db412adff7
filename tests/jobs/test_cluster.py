"""A job on processes of a dask cluster: the same result, whatever happens to the workers."""

import gc
import os
import re
import signal
import sys
from dataclasses import replace

import pytest
from distributed import Client, LocalCluster
from small_jobs import lines, shards, small_ct, small_network

from napari_restore_rwkv.errors import DeviceError, OutputError
from napari_restore_rwkv.jobs import cluster as cluster_module
from napari_restore_rwkv.jobs import lock, scheduler
from napari_restore_rwkv.jobs.audit import verify
from napari_restore_rwkv.jobs.cluster import ClusterJob, Source, restore_shown, restore_slab
from napari_restore_rwkv.jobs.job import restore_to_zarr
from napari_restore_rwkv.jobs.ledger import Ledger
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.progress import Phase, finish
from napari_restore_rwkv.scans.files import write_scan
from napari_restore_rwkv.scans.opening import open_scan

pytestmark = pytest.mark.slow

SLABS = 40


@pytest.fixture(scope="module")
def workers():
    """Two processes, on free ports."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", protocol="tcp") as it:
        yield it


@pytest.fixture
def source(tmp_path, weights_file):
    file = tmp_path / "scan.mha"
    write_scan(small_ct(slices=2 * SLABS, side=32), file)
    return Source(str(file), str(weights_file), device="cpu")


@pytest.fixture
def job(workers, source, tmp_path):
    """Make a job on the cluster, or resume one."""

    def make(**options):
        scan, network = open_scan(source.path), load_checkpoint(source.weights)
        path = tmp_path / "restored.ome.zarr"
        return ClusterJob(workers.scheduler_address, source, scan, network, path, slices_per_slab=2, **options)

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(workers, source, job, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.05)
    running = job()
    steps, saved, lost = running.run(), 0, False
    first = next(steps)
    assert first.phase is Phase.CONNECTED
    assert first.detail.startswith("2 workers, dashboard at http")
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result = end.value
            break
        saved += step.phase is Phase.SAVED
        lost |= step.phase is Phase.WORKERS_LOST
        if saved == 5 and step.phase is Phase.SAVED:
            with pytest.raises(OutputError, match="is being written by another process"):
                finish(job(resume=True).run())
            [victim, _] = [worker.pid for worker in workers.workers.values()]
            os.kill(victim, signal.SIGKILL)
    assert lost
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    alone = tmp_path / "alone.ome.zarr"
    finish(restore_to_zarr(scan, network, alone, slices_per_slab=2))
    assert shards(running.path) == shards(alone)
    assert finish(verify(running.path)).sound
    assert result.metadata["restoration"]["slices"] == 2 * SLABS
    assert sum('"unit"' in line for line in lines(running.path)) == SLABS
    assert sorted(Ledger(running.path).done()) == list(range(SLABS))


def test_a_job_that_is_stopped_leaves_no_worker_writing(workers, job):
    running = job()
    steps = running.run()
    while next(steps).phase is not Phase.SAVED:
        pass
    steps.close()
    before = shards(running.path)
    with scheduler.connected(workers.scheduler_address) as client:
        assert not any(client.run(cluster_module.slabs_under_way, str(running.path)).values())
    result = finish(job(resume=True).run())
    assert result.metadata["restoration"]["slices"] == 2 * SLABS
    assert before.items() <= shards(running.path).items()


def test_the_slice_on_screen_is_restored_alone_before_its_slab(workers, job, monkeypatch):
    submitted, submit = [], Client.submit
    monkeypatch.setattr(
        Client, "submit", lambda self, work, *more, **how: (submitted.append(work), submit(self, work, *more, **how))[1]
    )
    running, shown = job(first=41), 41
    steps = running.run()
    step = next(step for step in steps if step.region is not None and step.region[0] == slice(shown, shown + 1))
    assert (step.phase, submitted[0]) == (Phase.RESTORING, restore_shown)
    early = running.unsaved(step.region)
    assert running.voxels[step.region].tolist() == early.tolist()
    finish(steps)
    assert open_scan(running.path).voxels[step.region].tolist() == early.tolist()
    assert early.any()


def test_a_file_that_workers_do_not_see_is_named(workers, source, tmp_path):
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    hidden = replace(source, path="/nowhere/scan.mha")
    job = ClusterJob(workers.scheduler_address, hidden, scan, network, tmp_path / "r.ome.zarr", slices_per_slab=2)
    with pytest.raises(OutputError, match=r"The worker at tcp://.* does not see /nowhere/scan\.mha: choose paths"):
        finish(job.run())


def test_a_scheduler_is_checked_before_it_is_used(workers, monkeypatch):
    assert scheduler.described(workers.scheduler_address) == "2 workers with 2 threads"
    monkeypatch.setattr("napari_restore_rwkv.__version__", "0.0.1")
    with pytest.raises(DeviceError, match=r"have version \S+ of napari-restore-rwkv, and this is 0\.0\.1"):
        scheduler.described(workers.scheduler_address)


def test_a_slab_with_a_ledger_line_is_not_done_again(source, tmp_path):
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    path = tmp_path / "restored.ome.zarr"
    finish(restore_to_zarr(scan, network, path, slices_per_slab=2, part=(1, 40)))
    before = shards(path)
    assert restore_slab(source, str(path), 0) == 0
    assert restore_slab(source, str(path), 7) == 7
    assert len(shards(path)) == len(before) + 1
    assert sum('"unit"' in line for line in lines(path)) == 2


def test_a_worker_with_other_weights_is_refused(source, tmp_path, monkeypatch):
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    path = tmp_path / "restored.ome.zarr"
    finish(restore_to_zarr(scan, network, path, slices_per_slab=2, part=(1, 40)))
    other = load_checkpoint(source.weights)
    other.output.weight.data += 1
    monkeypatch.setattr(cluster_module, "_opened", lambda _: (scan, other))
    with pytest.raises(OutputError, match=r"differs from the coordinator \(model sha256: .*use workers with the same"):
        restore_slab(source, str(path), 1)


def test_a_missing_scheduler_is_reported(source, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "_PATIENCE", "0.3s")
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    path = tmp_path / "restored.ome.zarr"
    job = ClusterJob("tcp://127.0.0.1:9", source, scan, network, path, slices_per_slab=2)
    with pytest.raises(DeviceError, match=r"There is no dask scheduler at tcp://127\.0\.0\.1:9; start one, or correct"):
        finish(job.run())


@pytest.mark.parametrize("address", ["tcp://no.such.host.invalid:1", "tcp://127.0.0.1:nine", "127.0.0.1:9"])
def test_an_address_without_a_scheduler_is_refused_at_once(address, capfd):
    with pytest.raises(DeviceError, match=f"There is no dask scheduler at {address}; start one, or correct"):
        scheduler.described(address)
    gc.collect()
    # A client that found nobody complains when it is taken away.
    assert capfd.readouterr().err == ""


def test_without_dask_the_extra_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    scan, network = open_scan(source.path), load_checkpoint(source.weights)
    job = ClusterJob("tcp://127.0.0.1:9", source, scan, network, tmp_path / "restored.ome.zarr", slices_per_slab=2)
    with pytest.raises(DeviceError, match=r"not installed: pip install 'napari-restore-rwkv\[cluster\]'"):
        finish(job.run())


def test_the_command_line_shares_the_work_and_says_where_to_watch(run, workers, source, tmp_path):
    words = ["restore", source.path, tmp_path / "restored.ome.zarr", "--checkpoint", source.weights, "--device", "cpu"]
    code, out, err = run(*words, "--scheduler", workers.scheduler_address)
    assert code == 0, err
    # The one that was killed may not have been started again yet.
    assert re.search(r"[12] workers?, dashboard at http", err)
    assert "complete, 80 slices in" in out
    assert finish(verify(tmp_path / "restored.ome.zarr")).sound


@pytest.mark.parametrize("kind", ["CommClosedError", "KilledWorker", "FutureCancelledError"])
def test_a_scheduler_that_ends_is_reported_in_a_sentence(tmp_path, kind):
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    errors = {
        "CommClosedError": CommClosedError("closed"),
        "KilledWorker": KilledWorker("unit", None, 3),
        "FutureCancelledError": FutureCancelledError("unit", "lost"),
    }

    class Lost:
        def result(self):
            raise errors[kind]

    source = Source("scan.mha", "ct-denoise")
    job = ClusterJob("tcp://gone:1", source, small_ct(), small_network(), tmp_path / "restored.ome.zarr")
    with pytest.raises(
        DeviceError, match=rf"scheduler at tcp://gone:1 or its workers have ended \({kind}\).*resume=True"
    ):
        job._result(Lost())
