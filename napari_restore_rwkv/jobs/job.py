"""A restoration into OME-Zarr that may be stopped at any moment, by anything, and continued.

Slab by slab: the shards of a slab are written and synced to disk, then the slab is recorded in the ledger, which is
synced too. A crash costs the slabs in progress. At the end every digest is checked, and only then is the result marked
complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from ..errors import OutputError
from ..restoration.checks import check_batch, check_modality, check_voxels
from ..restoration.context import uses_context
from ..restoration.intensity import rule_for
from ..restoration.noise import known_noise
from ..restoration.output import new_output
from ..restoration.precision import EXACT
from ..restoration.provenance import InputDigest, provenance
from ..restoration.slices import Plan
from ..restoration.tiles import tiling_record
from ..scans.lazy import LazyVoxels
from ..scans.slice_axis import choose_slice_axis, slice_shape
from ..scans.zarr.writing import choose_layout, remove_leftovers
from ..storage.durable import writing_errors
from .audit import check_place, check_slabs, complete, numbers
from .identity import changed_slabs, fingerprint_of, job_identity
from .ledger import Ledger, create_ledger, slices_per_slab_of
from .lock import coordinating
from .restore_slabs import restore_slabs
from .same_job import refuse_another_job
from .slabs import SlabQueue, slabs_of_part

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import torch
    from torch import nn

    from ..progress import Progress
    from ..restoration.intensity import IntensityRule
    from ..restoration.tiles import Tile
    from ..scans.scan import Scan

# A disk that corrupts data twice in a row will do so again.
_MOST_ATTEMPTS = 3


class JobOptions(TypedDict, total=False):
    """How a job restores; each keyword is that of `ZarrJob`."""

    resume: bool
    part: tuple[int, int] | None
    axis: str
    first: int | None
    dtype: Any
    device: torch.device | None
    intensity: IntensityRule | None
    any_modality: bool
    precision: str
    batch: int | None
    tile: Tile | None
    noise: float | None
    strength: float
    slices_per_slab: int | None


def restore_to_zarr(
    scan: Scan, network: nn.Module, path: str | Path, **options: Unpack[JobOptions]
) -> Generator[Progress, int | None, Scan]:
    """Restore a scan of any size into an OME-Zarr folder; the options are those of `ZarrJob`.

    Iterate it for `Progress`; ``send(i)`` says that slice i is now on screen; closing it pauses, and the same call with
    ``resume=True`` continues. The value of StopIteration is the result, with lazy voxels.
    """
    return (yield from ZarrJob(scan, network, path, **options).run())


class ZarrJob:
    """A restoration into an OME-Zarr folder.

    Parameters
    ----------
    scan
        Voxels (Z, Y, X), lazy or not, read a slab at a time.
    network
        From `load_checkpoint`; moved to `device` if one is given.
    path
        The output, a folder that does not exist yet, unless the job is resumed.
    resume
        Continue an output that was started with the same input, network and options; start it if it does not exist.
    part
        (i, n): do only every n-th slab, starting with the i-th, counted from 1. All parts together are the job, which
        `finalize` marks complete. Implies `resume`, because any of the parts may come first.
    axis, first, dtype, intensity, any_modality, precision, batch, tile, noise, strength
        As for `restore`.
    slices_per_slab
        How many slices are saved together; None takes at most 16, and 64 MiB. A resumed output keeps its own value.

    Attributes
    ----------
    layout
        How the output is divided into slabs.

    Raises
    ------
    ScanError, CheckpointError, DeviceError
        As `restore` does.
    """

    def __init__(
        self,
        scan: Scan,
        network: nn.Module,
        path: str | Path,
        *,
        resume: bool = False,
        part: tuple[int, int] | None = None,
        axis: str = "auto",
        first: int | None = None,
        dtype: Any = None,
        device: torch.device | None = None,
        intensity: IntensityRule | None = None,
        any_modality: bool = False,
        precision: str = EXACT,
        batch: int | None = None,
        tile: Tile | None = None,
        noise: float | None = None,
        strength: float = 1.0,
        slices_per_slab: int | None = None,
    ) -> None:
        check_batch(batch)
        check_voxels(scan.voxels, dimensions=3)
        check_modality(scan, network, any_modality)
        check_part(part)
        self.path = Path(path)
        self._scan, self._network, self._resume, self._part = scan, network, resume or part is not None, part
        self._precision, self._batch, self._first, self._displayed = precision, batch, first, first or 0
        self._intensity = intensity or rule_for(scan, network, any_modality)
        if self._resume:
            slices_per_slab = slices_per_slab_of(self.path) or slices_per_slab
        one = scan.with_voxels(np.empty((1, 1, 1), scan.voxels.dtype))
        self._axis = choose_slice_axis(scan, axis)
        dtype = new_output(one, dtype, whole=True).dtype
        self.layout = choose_layout(scan.shape, dtype, self._axis.axis, slab=slices_per_slab)
        self._strength = Plan(self._intensity, strength=strength).strength
        self._noise = known_noise(scan, network, self.layout.axis, noise)
        self._tiling = tiling_record(tile, *slice_shape(scan, self.layout.axis))
        if device is not None:
            network.to(device)
        self._queue: SlabQueue | None = None

    @property
    def slices(self) -> int:
        """Number of slices of all slabs of this job."""
        return self._slices(slabs_of_part(self.layout.slabs, self._part))

    def run(self) -> Generator[Progress, int | None, Scan]:
        """Do the remaining work.

        Yields
        ------
        Progress
            In slices. A region is that of a restored slice, or of a saved slab. While the output is being checked, in
            slabs.

        Returns
        -------
        Scan
            The value of StopIteration: the geometry of the scan, lazy voxels of the output, and, once all parts are
            done, its provenance as ``metadata["restoration"]``.

        Raises
        ------
        OutputError
            The output already exists and is not to be resumed, or was started as a different job; another process is
            working on it; it cannot be written, for example for lack of space; or the input has changed meanwhile.
        """
        files = fingerprint_of(self._scan)
        identity = self._identity()
        with writing_errors(self.path.name):
            ledger = self._ledger(identity)
        with coordinating(ledger.folder, self.path.name, self._part):
            refuse_another_job(ledger, self._scan, self.layout, identity, self._record())
            yield from self._refuse_changed_input(ledger)
            slabs = slabs_of_part(self.layout.slabs, self._part)
            with writing_errors(self.path.name):
                if self._part is None:
                    ledger.clean()
                remove_leftovers(self.path, self.layout, slabs)
            done = ledger.done()
            todo = [slab for slab in slabs if slab not in done]
            for _ in range(_MOST_ATTEMPTS):
                if todo:
                    # Zarr reads them before it writes.
                    if ledger.is_complete() or ledger.damaged_metadata():
                        ledger.repair_metadata()
                    yield from self._restore(ledger, slabs, todo)
                # Slabs that are not as they were written are redone.
                todo = sorted((yield from check_slabs(ledger, slabs, ledger.done())))
                if not todo:
                    break
            else:
                raise OutputError(
                    f"{self.path.name} reads back from disk differently than it was written (slab {numbers(todo)}): "
                    "the disk may be failing; start over on another disk."
                )
            yield from self._refuse_input_changed_meanwhile(ledger, slabs, files)
            return self._finished(ledger)

    def _finished(self, ledger: Ledger) -> Scan:
        """Mark the whole job as complete, and return the result; the result of a part is only returned."""
        # If the input was itself restored, its record says nothing about this result.
        metadata = {key: value for key, value in self._scan.metadata.items() if key != "restoration"}
        if self._part is None:
            with writing_errors(self.path.name):
                if ledger.damaged_metadata():
                    ledger.repair_metadata()
                if not ledger.is_complete():
                    complete(ledger, ledger.done())
            metadata["restoration"] = ledger.provenance()
        return self._scan.with_voxels(self.voxels, metadata=metadata)

    @property
    def voxels(self) -> LazyVoxels:
        """The saved output plus slices that are restored but not saved yet; zeros elsewhere."""

        def read(box: tuple[slice, slice, slice]) -> np.ndarray:
            import zarr

            array: Any = zarr.open_array(self.path / "0", mode="r")
            voxels = np.asarray(array[box])
            self._overlay(box, voxels)
            return voxels

        return LazyVoxels(self.layout.shape, self.layout.dtype, read, source=self.path)

    def unsaved(self, region: tuple[slice, slice, slice]) -> np.ndarray:
        """Return the voxels of a region that are restored but not saved yet, zeros elsewhere; reads no file."""
        voxels = np.zeros([along.stop - along.start for along in region], self.layout.dtype)
        self._overlay(region, voxels)
        return voxels

    def _overlay(self, box: tuple[slice, ...], voxels: np.ndarray) -> None:
        if self._queue is not None:
            self._queue.overlay(box, voxels)

    def _restore(
        self, ledger: Ledger, slabs: Sequence[int], todo: Sequence[int]
    ) -> Generator[Progress, int | None, None]:
        """Restore slabs in this process, one after another; slices are counted over all slabs of this job."""
        displayed = self._displayed if self._queue is None else self._queue.displayed
        self._queue = SlabQueue(self._scan, self.layout, todo, displayed, neighbours=uses_context(self._network))
        before, total = (self._slices(some) for some in (set(slabs) - set(todo), slabs))
        name = "" if self._part is None else f"{self._part[0]}-of-{self._part[1]}"
        return restore_slabs(
            ledger, self._network, self._queue, name=name, batch=self._batch, before=before, total=total
        )

    def _slices(self, slabs: Iterable[int]) -> int:
        return sum(len(self.layout.slices(slab)) for slab in slabs)

    def _identity(self) -> dict[str, Any]:
        how = (self._intensity, self._precision, self._tiling, self._noise, self._strength)
        return job_identity(self._scan, self._network, self.layout, *how)

    def _ledger(self, identity: dict[str, Any]) -> Ledger:
        path = self.path
        check_place(path, self._resume)
        if path.is_dir() and any(path.iterdir()):
            return Ledger(path)
        files = fingerprint_of(self._scan)
        changes = None if files is None else str(files["changes"])
        return create_ledger(path, self._scan, self.layout, identity, self._record(), changes)

    def _record(self) -> dict[str, Any]:
        """Return the provenance as far as it is known at the start."""
        size = self.layout.shape[self.layout.axis]
        how = {**self._tiling, "precision": self._precision, "noise": self._noise, "strength": self._strength}
        return provenance(self._network, self._intensity, self._axis, size, InputDigest(), **how)

    def _refuse_changed_input(self, ledger: Ledger) -> Generator[Progress, None, None]:
        """Compare the input with what was restored, unless its digest or unmodified files show that it is unchanged."""
        if "sha256" in ledger.identity["input"]:
            return
        files = fingerprint_of(self._scan)
        if files is not None and files["changes"] == ledger.changes:
            return
        slabs = ledger.done()
        changed = yield from self._changed_slabs(ledger, slabs)
        if changed:
            raise OutputError(
                f"{self.path.name} was started with another input ({changed} of {len(slabs)} finished slabs had other "
                "voxels): give the original input, or start over with a new output."
            )

    def _refuse_input_changed_meanwhile(
        self, ledger: Ledger, slabs: Sequence[int], before: dict[str, Any] | None
    ) -> Generator[Progress, None, None]:
        """Compare the files of the input with their state at the start, and its voxels if the files were modified."""
        try:
            after = fingerprint_of(self._scan)
        except OSError as error:
            raise OutputError(
                f"{self.path.name} cannot be finished: its input no longer exists", "put it back", resumable=True
            ) from error
        if after == before:
            return
        changed = yield from self._changed_slabs(ledger, slabs)
        if changed:
            raise OutputError(
                f"{self.path.name} is not finished: its input changed while it was restored ({changed} of {len(slabs)} "
                "slabs had other voxels); start over with a new output, and do not change the input meanwhile."
            )

    def _changed_slabs(self, ledger: Ledger, slabs: Iterable[int]) -> Generator[Progress, None, int]:
        done = ledger.done()
        return (yield from changed_slabs(self._scan, self.layout, {slab: done[slab][-1].slices for slab in slabs}))


def check_part(part: tuple[int, int] | None) -> None:
    """Raise OutputError unless this is part i of n."""
    if part is not None and not 1 <= part[0] <= part[1]:
        raise OutputError(f"There is no part {part[0]} of {part[1]}; give 1/{part[1]} to {part[1]}/{part[1]}.")
