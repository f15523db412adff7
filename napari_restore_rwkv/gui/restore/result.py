"""What a restoration has produced so far: restored voxels, difference, and the finished slices.

The background thread fills a result while the viewer shows it: a slice is written before it is reported, and nothing
else writes. This file has what all results have in common, and the result that is held entirely in memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...restoration.detail import Blend
from .mixture import mixed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ...restoration.provenance import InputDigest
    from ...scans.scan import Scan

SAMPLE_PER_SLICE = 4096
SAMPLE_OF_ALL = 400_000
LIMIT_PERCENTILE = 99.5
NEUTRAL = Blend()


class RestorationResult(ABC):
    """Restored voxels and signed difference of one scan, (Z, Y, X), float32, in its unit; NaN where not yet restored.

    Attributes
    ----------
    scan, axis
        The scan, and the array axis along which it is restored.
    finished
        Indices along `axis` of the finished slices.
    limit
        Symmetric display limit of the difference in its unit: the 99.5th percentile of its magnitude so far.
    provenance
        How the scan was restored; empty until a run has ended.
    made_for
        The modality that the network was made for; None if it takes any, or is not loaded yet.
    output
        The folder it is saved to while it is restored; None for memory.
    ready
        Whether the arrays can be shown, even if all of them is NaN.
    proposed
        The proposed strength, 0 to 1, with which it is first shown.
    applied
        The strength that its voxels were restored with, 0 to 1.
    seconds_per_slice
        The time of the fastest slice so far, for estimates; None if not known.
    """

    def __init__(self, scan: Scan, axis: int) -> None:
        self.scan = scan
        self.axis = axis
        self.finished: set[int] = set()
        self.limit = 0.0
        self.provenance: dict[str, Any] = {}
        self.made_for: str | None = None
        self.output: Path | None = None
        self.ready = False
        self.proposed = self.applied = 1.0
        self.seconds_per_slice: float | None = None
        self._magnitudes: list[np.ndarray] = []
        self._digest: InputDigest | None = None

    @property
    @abstractmethod
    def restored(self) -> Any:
        """Restored voxels: an array, or an object that can be indexed like one."""

    @property
    @abstractmethod
    def difference(self) -> Any:
        """Restored minus input, as such an array."""

    @property
    @abstractmethod
    def target(self) -> Any:
        """The output that `restore` writes slices into."""

    def propose(self, strength: float) -> None:
        """Set the proposed strength before the first slice; voxels in memory are mixed when they are shown."""
        self.proposed = strength

    @abstractmethod
    def prepare(self) -> None:
        """Prepare for the first slice; call it off the GUI thread."""

    @abstractmethod
    def accepts_output(self, output: Path | None) -> bool:
        """Whether a run over the whole volume with this output, None for memory, can continue this result."""

    @abstractmethod
    def as_scan(self, blend: Blend = NEUTRAL) -> Scan:
        """Return the restored scan, rounded to the integer type of the scan if that has 16 bits or more."""

    @property
    def slices(self) -> int:
        """Number of slices along the restoration axis."""
        return self.scan.shape[self.axis]

    @property
    def remaining(self) -> list[int]:
        """The slices that a run over the whole volume has to restore, in order."""
        return [index for index in range(self.slices) if index not in self.finished]

    def region(self, index: int) -> tuple[slice, slice, slice]:
        """Return the region of one slice."""
        region = [slice(0, size) for size in self.scan.shape]
        region[self.axis] = slice(index, index + 1)
        return region[0], region[1], region[2]

    def take(self, region: tuple[slice, slice, slice]) -> None:
        """Add a slice that was just written into `target`; call it off the GUI thread."""
        original = np.asarray(self.scan.voxels[region])
        index = region[self.axis].start
        self._digest_input(index, original)
        self._keep_difference(region, original)
        self.finished.add(index)

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Keep the provenance of the last run; its slice count and input digest cover all runs of this result."""
        if self._digest is not None:
            digest = self._digest.hexdigest()
            self.provenance = {**provenance, "slices": len(self.finished), "input_sha256": digest}

    def metadata(self, blend: Blend = NEUTRAL, **more: Any) -> dict[str, Any]:
        """Return the scan's metadata with the provenance, once that is known, and the blend."""
        how = {"restoration": {**self.provenance, **blend.as_dict(self.applied), **more}} if self.provenance else {}
        return {**self.scan.metadata, **how}

    @abstractmethod
    def _keep_difference(self, region: tuple[slice, slice, slice], original: np.ndarray) -> None:
        """Keep the difference between restored and original voxels, or sample its magnitude."""

    def _measure(self, difference: np.ndarray) -> None:
        """Update the display limit with one more slice."""
        self._magnitudes.append(_sample(np.abs(difference), min(SAMPLE_PER_SLICE, SAMPLE_OF_ALL // self.slices + 1)))
        together = np.concatenate(self._magnitudes)
        self.limit = float(np.percentile(together, LIMIT_PERCENTILE)) if together.size else 0.0

    def _digest_input(self, index: int, voxels: np.ndarray) -> None:
        if self._digest is None:
            # Here, because it imports torch, and the panel opens without torch.
            from ...restoration.provenance import InputDigest

            self._digest = InputDigest()
        self._digest.add(index, voxels)


class ResultInMemory(RestorationResult):
    """A result in two arrays."""

    def __init__(self, scan: Scan, axis: int) -> None:
        super().__init__(scan, axis)
        self._restored: np.ndarray | None = None
        self._difference: np.ndarray | None = None

    @property
    def restored(self) -> np.ndarray:
        """Restored voxels."""
        assert self._restored is not None, "prepare() comes first"
        return self._restored

    @property
    def difference(self) -> np.ndarray:
        """Restored minus input."""
        assert self._difference is not None, "prepare() comes first"
        return self._difference

    @property
    def target(self) -> np.ndarray:
        """The restored voxels themselves."""
        return self.restored

    def prepare(self) -> None:
        """Allocate the arrays, unless an earlier run has; large ones take a while."""
        if self._restored is None:
            self._restored = np.full(self.scan.shape, np.nan, np.float32)
            self._difference = np.full(self.scan.shape, np.nan, np.float32)
            self.ready = True

    def accepts_output(self, output: Path | None) -> bool:
        """Whether this is memory."""
        return output is None

    def as_scan(self, blend: Blend = NEUTRAL) -> Scan:
        """Return the restored scan, with rounded voxels once it is complete."""
        voxels = np.asarray(mixed(self.restored, self.difference, blend, self.axis))
        kind = np.dtype(self.scan.voxels.dtype)
        if kind.kind in "iu" and kind.itemsize >= 2 and not self.remaining:
            voxels = rounded(voxels, kind)
        return self.scan.with_voxels(voxels, metadata=self.metadata(blend))

    def _keep_difference(self, region: tuple[slice, slice, slice], original: np.ndarray) -> None:
        difference = difference_of(self.restored[region], original)
        self.difference[region] = difference
        self._measure(difference)


def difference_of(restored: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Return restored minus input in float32."""
    with np.errstate(invalid="ignore"):
        return restored - original.astype(np.float32)


def rounded(voxels: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Return voxels in an integer type, rounded and clipped to its range."""
    bounds = np.iinfo(kind)
    return np.clip(np.rint(voxels), bounds.min, bounds.max).astype(kind)


def _sample(values: np.ndarray, size: int) -> np.ndarray:
    """Return an evenly spaced sample of about this size, without values that are not finite."""
    step = max(1, values.size // size)
    # A step that divides the row length would sample only a few columns.
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1
    flat = values.ravel()[::step]
    return flat[np.isfinite(flat)]
