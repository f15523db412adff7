"""What a restoration has produced so far: restored voxels, difference, and the slices that are done.

A result is filled in the background thread and shown by the viewer at the same time: a slice is written before it is
announced, and nobody else writes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CheckpointError
from ..scans.scan import AXES
from ..tasks import TASKS
from .options import no_weights

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ..progress import Progress
    from ..restoration.provenance import InputDigest
    from ..scans.scan import Scan
    from .options import RestoreOptions

SAMPLE_PER_SLICE = 4096
SAMPLE_OF_ALL = 400_000
LIMIT_PERCENTILE = 99.5


class RestorationResult:
    """Restored voxels and signed difference of one scan, both (Z, Y, X) float32 in units, NaN where not yet done.

    Attributes
    ----------
    scan, axis
        The scan, and the array axis along which it is restored.
    finished
        Indices along `axis` of the slices that are done.
    limit
        Symmetric display limit of the difference in units: the 99.5th percentile of its magnitude so far.
    provenance
        How the scan was restored; empty until a run has ended.
    made_for
        Modality that the network was made for; None if any, or not loaded yet.
    """

    def __init__(self, scan: Scan, axis: int) -> None:
        self.scan = scan
        self.axis = axis
        self.finished: set[int] = set()
        self.limit = 0.0
        self.provenance: dict[str, Any] = {}
        self.made_for: str | None = None
        self._restored: np.ndarray | None = None
        self._difference: np.ndarray | None = None
        self._magnitudes: list[np.ndarray] = []
        self._digest: InputDigest | None = None

    @property
    def slices(self) -> int:
        """Number of slices along the restoration axis."""
        return self.scan.shape[self.axis]

    @property
    def remaining(self) -> list[int]:
        """Slices that are still to be done, in order."""
        return [index for index in range(self.slices) if index not in self.finished]

    @property
    def restored(self) -> np.ndarray:
        """Restored voxels."""
        assert self._restored is not None, "allocate() comes first"
        return self._restored

    @property
    def difference(self) -> np.ndarray:
        """Restored minus input."""
        assert self._difference is not None, "allocate() comes first"
        return self._difference

    def allocate(self) -> None:
        """Make the arrays, unless an earlier run has; large ones take a while, so call it off the GUI thread."""
        if self._restored is None:
            self._restored = np.full(self.scan.shape, np.nan, np.float32)
            self._difference = np.full(self.scan.shape, np.nan, np.float32)

    def take(self, region: tuple[slice, slice, slice]) -> None:
        """Account for a region that was just written into `restored`; off the GUI thread."""
        original = np.asarray(self.scan.voxels[region])
        with np.errstate(invalid="ignore"):
            difference = self.restored[region] - original.astype(np.float32)
        self.difference[region] = difference
        self._digest_input(region[self.axis].start, original)
        self._magnitudes.append(_sample(np.abs(difference), min(SAMPLE_PER_SLICE, SAMPLE_OF_ALL // self.slices + 1)))
        together = np.concatenate(self._magnitudes)
        self.limit = float(np.percentile(together, LIMIT_PERCENTILE)) if together.size else 0.0
        self.finished.update(range(*region[self.axis].indices(self.slices)))

    def tell(self, provenance: Mapping[str, Any]) -> None:
        """Keep how the last run was done; a result can take several runs, so slices and input are those of all."""
        if self._digest is not None:
            digest = self._digest.hexdigest()
            self.provenance = {**provenance, "slices": len(self.finished), "input_sha256": digest}

    def _digest_input(self, index: int, voxels: np.ndarray) -> None:
        if self._digest is None:
            # Imports torch, which the network has done already; not at the top, for the panel opens without it.
            from ..restoration.provenance import InputDigest

            self._digest = InputDigest()
        self._digest.add(index, voxels)

    def metadata(self, strength: float = 1.0, **more: Any) -> dict[str, Any]:
        """Return the scan's metadata and, once known, how it was restored and how strongly that is mixed in."""
        how = {"restoration": {**self.provenance, "strength": strength, **more}} if self.provenance else {}
        return {**self.scan.metadata, **how}

    def as_scan(self, strength: float = 1.0) -> Scan:
        """Return the restored scan, rounded to the scan's own integers if they have 16 bits or more."""
        voxels = self.restored if strength == 1.0 else np.asarray(Mixture(self.restored, self.difference, strength))
        kind = np.dtype(self.scan.voxels.dtype)
        if kind.kind in "iu" and kind.itemsize >= 2 and not self.remaining:
            bounds = np.iinfo(kind)
            voxels = np.clip(np.rint(voxels), bounds.min, bounds.max).astype(kind)
        return self.scan.with_voxels(voxels, metadata=self.metadata(strength))


class Mixture:
    """An array ``base + (strength - 1) * difference``, worked out for what is looked at only.

    With the restored voxels as base it is ``input + strength * (restored - input)``; with the difference as base it is
    ``strength * difference``. Voxels whose difference is not finite (passed through unchanged) are the base's own.
    """

    def __init__(self, base: np.ndarray, difference: np.ndarray, strength: float) -> None:
        self.base = base
        self.difference = difference
        self.strength = strength

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.base.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the values, float32."""
        return self.base.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.base.ndim

    @property
    def size(self) -> int:
        """Number of values."""
        return self.base.size

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: Any) -> np.ndarray:
        difference = np.nan_to_num(self.difference[index], nan=0.0, posinf=0.0, neginf=0.0)
        return self.base[index] + np.float32(self.strength - 1.0) * difference

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


def restoration_steps(
    options: RestoreOptions, result: RestorationResult, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Load the network and restore these slices of the result's scan into it, `first` first; see `restore`."""
    network = load_network(options.weights, _modified(options.weights))
    result.made_for = network.card.modality
    result.allocate()
    steps = run_restore(result, network, options, indices, first)
    try:
        progress = next(steps)
        while True:
            if progress.region is not None:
                result.take(progress.region)
            displayed = yield progress
            progress = steps.send(displayed)
    except StopIteration as stop:
        result.tell(stop.value.metadata["restoration"])
        return stop.value
    finally:
        steps.close()


@lru_cache(maxsize=1)
def load_network(weights: str | Path, modified: float | None) -> Any:
    """Return the network of a task or weights file; the last one is kept, until its file changes."""
    from ..network.checkpoint import load_checkpoint, shipped_checkpoints

    # Restore may be pressed before the form knows which weights there are.
    if isinstance(weights, str) and weights not in shipped_checkpoints():
        raise CheckpointError(no_weights(TASKS[weights]))
    return load_checkpoint(weights)


def run_restore(
    result: RestorationResult, network: Any, options: RestoreOptions, indices: list[int], first: int | None
) -> Generator[Progress, int | None, Scan]:
    """Start `restore` with the person's choices, writing into the result."""
    from ..device import choose_device
    from ..restoration.restore import restore

    return restore(
        result.scan,
        network,
        axis=AXES[result.axis],
        indices=indices,
        first=first,
        output=result.restored,
        dtype=np.float32,
        device=choose_device(options.device),
        any_modality=options.any_modality,
    )


def _modified(weights: str | Path) -> float | None:
    path = Path(weights)
    return path.stat().st_mtime if isinstance(weights, Path) and path.exists() else None


def _sample(values: np.ndarray, size: int) -> np.ndarray:
    """Return an evenly spread sample of about this size, without what is not finite."""
    step = max(1, values.size // size)
    # A step that divides the row length would sample a few columns only.
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1
    flat = values.ravel()[::step]
    return flat[np.isfinite(flat)]
