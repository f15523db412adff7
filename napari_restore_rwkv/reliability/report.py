"""What a restoration did to a scan, slice by slice: noise, what was removed, and figures against a reference."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from ..errors import ScanError
from ..progress import Phase, Progress
from ..scans.noise.estimate import slice_noise
from ..scans.scan import AXES, same_geometry, slice_of
from ..scans.slice_axis import choose_slice_axis, slice_shape
from .removed import LEAST_SIDE, Removed, Verdict, judge_removed
from .scores import Scores, scores

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

    from ..scans.scan import Scan

CT_WINDOW_HU = (-160.0, 240.0)
_FIGURES = ("psnr", "ssim", "rmse", "nrmse", "haarpsi")


@dataclass(frozen=True, slots=True)
class SliceReport:
    """One slice before and after.

    Attributes
    ----------
    index
        Along the slice axis, from 0.
    noise_before, noise_after
        Standard deviation of the noise in flat regions, in the unit of the scan.
    removed
        What was removed.
    before, after
        Figures against the reference; None without one.
    """

    index: int
    noise_before: float
    noise_after: float
    removed: Removed
    before: Scores | None
    after: Scores | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = asdict(self)
        values["removed"]["verdict"] = self.removed.verdict.value
        return values


@dataclass(frozen=True, slots=True)
class Report:
    """A restored scan in figures.

    Attributes
    ----------
    slices
        In order along the axis.
    axis
        "z", "y" or "x".
    unit
        Of the scan.
    window
        For figures against a reference; None for the range of each slice.
    provenance
        How the restoration was made, as stored with the result; empty if unknown.
    """

    slices: tuple[SliceReport, ...]
    axis: str
    unit: str
    window: tuple[float, float] | None
    provenance: dict[str, Any]

    def suspicious(self) -> list[SliceReport]:
        """Return the slices whose difference is not only noise, most suspicious first."""
        found = [one for one in self.slices if one.removed.verdict is not Verdict.NOISE]
        return sorted(found, key=lambda one: -one.removed.highest)

    def summary(self) -> dict[str, Any]:
        """Return medians over the slices, and how many slices got each verdict."""
        verdicts = [one.removed.verdict for one in self.slices]
        values = {
            "noise_before": median(one.noise_before for one in self.slices),
            "noise_after": median(one.noise_after for one in self.slices),
            "bias": median(one.removed.bias for one in self.slices),
            "verdicts": {verdict.value: verdicts.count(verdict) for verdict in Verdict},
        }
        for when in ("before", "after"):
            against = [figures for one in self.slices if (figures := getattr(one, when)) is not None]
            if against:
                values |= {f"{name}_{when}": median(getattr(one, name) for one in against) for name in _FIGURES}
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "axis": self.axis,
            "unit": self.unit,
            "window": None if self.window is None else list(self.window),
            "summary": self.summary(),
            "suspicious": [one.index for one in self.suspicious()],
            "slices": [one.as_dict() for one in self.slices],
            "provenance": self.provenance,
        }


def judge_slice(
    index: int,
    before: np.ndarray,
    after: np.ndarray,
    modality: str | None,
    reference: np.ndarray | None = None,
    window: tuple[float, float] | None = None,
) -> SliceReport:
    """Report on one slice, shape (Y, X), 64 pixels or more along each side; see `report_on` for the rest."""
    against: list[Scores | None] = [None, None]
    if reference is not None:
        against = [scores(image, reference, window) for image in (before, after)]
    noise = [slice_noise(image, modality).sigma for image in (before, after)]
    return SliceReport(index, noise[0], noise[1], judge_removed(before, after), against[0], against[1])


def report_on(
    before: Scan,
    after: Scan,
    reference: Scan | None = None,
    *,
    indices: Sequence[int] | None = None,
    axis: int | None = None,
) -> Generator[Progress, None, Report]:
    """Compare a scan with its restoration, slice by slice along the axis in which it was restored.

    Parameters
    ----------
    before, after, reference
        On the same grid, lazy or not; three slices are in memory at a time.
    indices
        Slices to report on, from 0, in order; None for all.
    axis
        Array axis across the slices; None for the one along which the restored scan says it was restored.

    Raises
    ------
    ScanError
        If the scans are not on the same grid, or the slices are smaller than 64 x 64 pixels.
    """
    for scan, name in ((after, "restored scan"), (reference, "reference")):
        if scan is not None and (scan.shape != before.shape or not same_geometry(scan, before)):
            raise ScanError(
                f"The {name} is not on the grid of the input: give scans with the same size, position and spacing."
            )
    provenance = dict(after.metadata.get("restoration", {}))
    if axis is None:
        axis = choose_slice_axis(before, provenance.get("slice_axis", "auto")).axis
    if min(slice_shape(before, axis)) < LEAST_SIDE:
        raise ScanError(
            f"A report needs slices of at least {LEAST_SIDE} x {LEAST_SIDE} pixels; the scan has {before.shape}."
        )
    window = CT_WINDOW_HU if before.modality == "CT" else None
    chosen = range(before.shape[axis]) if indices is None else indices
    slices: list[SliceReport] = []
    for index in chosen:
        one, other = (slice_of(scan.voxels, axis, index) for scan in (before, after))
        ideal = None if reference is None else slice_of(reference.voxels, axis, index)
        slices.append(judge_slice(index, one, other, before.modality, ideal, window))
        yield Progress(Phase.MEASURING, len(slices), len(chosen))
    return Report(tuple(slices), AXES[axis], before.unit, window, provenance)
