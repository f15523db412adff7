"""Shared by the tests of restorations into files: a scan of several slabs, and a job that can be held."""

import threading

import numpy as np

from napari_restore_rwkv.gui.layers import RECORD, scan_to_layer
from napari_restore_rwkv.gui.restore import steps
from napari_restore_rwkv.jobs.job import restore_to_zarr
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.progress import Phase, Progress, finish
from napari_restore_rwkv.scans.scan import Scan

SLICES = 40
EVERYTHING = 1000
LISTEN_EVERY_S = 0.02


def chest(slices=SLICES):
    """A CT scan of ten slabs."""
    rng = np.random.default_rng(3)
    voxels = rng.integers(-200, 300, (slices, 16, 18), dtype=np.int16)
    return Scan(voxels, (2.0, 0.9, 0.9), (-10.0, -20.0, 30.0), modality="CT", unit="HU")


def chest_layer(scan=None, path=None, name="chest"):
    """The layer data tuple of the scan, as if it had been read from this path."""
    data, attributes, kind = scan_to_layer(chest() if scan is None else scan, name)
    attributes["metadata"][RECORD]["path"] = path
    return data, attributes, kind


def undisturbed(path, weights, scan=None, per_slab=steps.SLICES_PER_SLAB):
    """Restore the scan into a folder without a panel, in slabs of the same size; return its voxels."""
    scan = chest() if scan is None else scan
    job = restore_to_zarr(scan, load_checkpoint(weights), path, slices_per_slab=per_slab)
    return np.asarray(finish(job).voxels)


def shards(path):
    """The bytes of every shard, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.glob("*/c/**/*") if file.is_file()}


class Gate:
    """Lets a job into a file restore a number of slices, and records what it is sent.

    Attributes
    ----------
    allowed
        Slices that may come back before the job waits; it still listens to Cancel.
    shown
        What was sent.
    order
        Slices in the order in which they came back.
    """

    def __init__(self, monkeypatch):
        self._opened = threading.Condition()
        self.allowed, self.shown, self.order = EVERYTHING, [], []
        self.waiting = threading.Event()
        begin = steps.begin_job
        monkeypatch.setattr(steps, "begin_job", lambda *words: self._held(begin(*words)))

    @property
    def allowed(self):
        return self._allowed

    @allowed.setter
    def allowed(self, slices):
        with self._opened:
            self._allowed = slices
            self._opened.notify_all()

    def _held(self, job):
        run = job.run
        job.run = lambda: self._steps(job, run())
        return job

    def _is_open(self):
        return len(self.order) < self.allowed

    def _steps(self, job, inner):
        try:
            progress, sent = next(inner), None
            while True:
                if progress.region is not None and progress.phase is not Phase.SAVED:
                    self.order.append(progress.region[job.layout.axis].start)
                sent = yield progress
                while not self._is_open():
                    self.waiting.set()
                    with self._opened:
                        self._opened.wait_for(self._is_open, LISTEN_EVERY_S)
                    # The job receives Cancel, and the slice that is displayed now.
                    sent = yield Progress(Phase.RESTORING, progress.done, progress.total)
                self.shown.append(sent)
                progress = inner.send(sent)
        except StopIteration as stop:
            return stop.value
        finally:
            inner.close()
