"""Opening the scan that an unfinished job was started with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from qtpy.QtCore import QObject, Signal

from ...errors import ScanError
from ...scans.scan import AXES, to_canonical
from ...tasks import TASKS
from ..compare.comparison import is_result
from ..file_names import stem
from ..layers import RECORD, choice_of, scan_to_layer, source_of
from ..options import RestoreOptions
from ..wording import words_of
from ..worker import StepsWorker

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari.components import ViewerModel

    from ...jobs.registry import BegunJob
    from ...progress import Progress
    from ...scans.scan import Scan

WAIT_AT_CLOSING_S = 2.0


class JobOpener(QObject):
    """Finds the scan of a job among the layers, or opens it in the background.

    Signals
    -------
    opened(options)
        The scan is open: these `RestoreOptions` continue the job.
    said(text)
        Which file is being opened.
    failed(error)
        The scan cannot be opened.
    stopped()
        Opening was cancelled.
    """

    opened = Signal(object)
    said = Signal(str)
    failed = Signal(object)
    stopped = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._worker: StepsWorker | None = None
        self._closed = False

    def open(self, job: BegunJob, chosen: Image | None) -> None:
        """Open the scan of a job; if its file is not known, the chosen layer is used, and checked later."""
        layer = _layer_of(self._viewer, job)
        if layer is None and job.input is None:
            layer = chosen
        if layer is not None:
            self.opened.emit(_options(job, layer))
        elif job.input is None:
            self.failed.emit(ScanError(f"Open the scan that {job.output.name} was started with, then press Resume."))
        elif not job.input.exists():
            self.failed.emit(
                ScanError(f"{job.input} does not exist: put the scan back there, then press Resume again.")
            )
        else:
            self._read(job)

    def cancel(self) -> None:
        """Cancel opening."""
        if self._worker is not None:
            self._worker.quit()

    def shut_down(self) -> None:
        """Cancel opening, and open nothing from now on."""
        self._closed = True
        if self._worker is not None:
            self._worker.join(WAIT_AT_CLOSING_S)

    def _read(self, job: BegunJob) -> None:
        assert job.input is not None
        self.said.emit(f"Opening {job.input.name} ...")
        self._worker = worker = StepsWorker(_reading(job))
        worker.progressed.connect(lambda news: self.said.emit(f"{words_of(news.progress)} ..."))
        worker.returned.connect(lambda scan: self._add(job, scan))
        worker.errored.connect(self.failed)
        worker.finished.connect(lambda: self._on_finished(worker))
        worker.start()

    def _add(self, job: BegunJob, scan: Scan) -> None:
        if self._closed:
            return
        assert job.input is not None
        data, attributes, kind = scan_to_layer(scan, stem(job.input))
        attributes["metadata"][RECORD].update(path=str(job.input), choices=[job.choice])
        layer = self._viewer.add_layer(Layer.create(data, attributes, kind))
        self.opened.emit(_options(job, layer))

    def _on_finished(self, worker: StepsWorker) -> None:
        if worker.abort_requested and not self._closed:
            self.stopped.emit()


def _reading(job: BegunJob) -> Generator[Progress, None, Scan]:
    from ...scans.opening import opening
    from ...scans.options import OpenOptions

    assert job.input is not None
    return to_canonical((yield from opening(job.input, OpenOptions(**job.choice))))


def _layer_of(viewer: ViewerModel, job: BegunJob) -> Image | None:
    for layer in viewer.layers:
        if not isinstance(layer, Image) or is_result(layer) or job.input is None or source_of(layer) != job.input:
            continue
        if _frame_of(job, layer) is not None:
            return layer
    return None


def _frame_of(job: BegunJob, layer: Image) -> int | None:
    """Return the frame of a layer that a job was started with, 0 for three axes; None if it was another scan."""
    frames = range(layer.data.shape[0]) if layer.ndim == 4 else [None]
    return next((frame or 0 for frame in frames if choice_of(layer, frame) == job.choice), None)


def _options(job: BegunJob, layer: Image) -> RestoreOptions:
    return RestoreOptions(
        layer=layer,
        # The name of a classical filter has its task after a colon; a file name has none.
        task=name if (name := str(job.weights).rpartition(":")[2]) in TASKS else None,
        weights=job.weights,
        time_index=_frame_of(job, layer) if layer.ndim == 4 else None,
        region="volume",
        run_on=job.device,
        any_modality=job.any_modality,
        axis=_axis_of(job.output),
        output=job.output,
    )


def _axis_of(output: Path) -> str:
    """Return the axis across the slices of a job, as an option."""
    from ...jobs.ledger import Ledger

    return AXES[Ledger(output).layout.axis]
