"""Maps voxel values to the network's range 0 to 1 and back: ``network = (value - low) / (high - low)``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cancellation import end_if_cancelled
from ..network.restorer import card_of
from ..scans.slice_axis import evenly_spaced
from .checks import check_range

if TYPE_CHECKING:
    from torch import nn

    from ..scans.scan import Scan

_CT_WINDOW_HU = (-1024.0, 3072.0)
_PET_WINDOW_SUV = (0.0, 20.0)
_MR_WINDOW = (0.0, 4095.0)
# The brightest 0.1 % of an MR scan on the 0..4095 scale lies above this value; below it the scan is on another scale.
_DIMMEST_MR_4095 = 400.0
# What the 99.9th percentile becomes under a robust rule: bright vessels and enhancing tumours, up to 1.67 times as
# bright as that percentile, stay inside the window and are restored as well.
_ROBUST_LEVEL = 0.6
_SAMPLED_SLICES = 16
_MODALITIES = {"ct-hu": "CT", "pet-suv": "PET", "pet-robust": "PET", "mr-4095": "MR", "mr-robust": "MR"}


@dataclass(frozen=True, slots=True)
class IntensityRule:
    """A linear map between the units of a scan and the range 0 to 1 that the networks were trained on.

    Attributes
    ----------
    name
        ``"ct-hu"``, ``"pet-suv"``, ``"pet-robust"``, ``"mr-4095"``, ``"mr-robust"``, or ``"robust"`` if the modality is
        unknown.
    low, high
        Values of the scan that become 0 and 1; ``low < high``.
    unit
        Unit of `low` and `high`: "HU", "SUV", or "" if arbitrary.
    """

    name: str
    low: float
    high: float
    unit: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"The window must have finite ends with low < high, got [{self.low}, {self.high}].")

    @property
    def modality(self) -> str | None:
        """The modality of such values: "CT", "MR" or "PET"; None if unknown."""
        return _MODALITIES.get(self.name)

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Map values in the unit of the scan to the network's range.

        Parameters
        ----------
        values
            Real array of any shape. Values outside the window are clipped; NaN and -inf become 0, +inf becomes 1.

        Returns
        -------
        ndarray
            float32 of the same shape, from 0 to 1 (inclusive).
        """
        # float64, because float32 would lose digits of large integers before the offset is subtracted.
        clipped = np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=self.low), self.low, self.high)
        return ((clipped - self.low) / (self.high - self.low)).astype(np.float32)

    def from_network(self, restored: np.ndarray, original: np.ndarray) -> np.ndarray:
        """Map what the network returned back to the unit of the scan.

        Parameters
        ----------
        restored
            Network output, of the shape of `original`.
        original
            The input of `to_network`. Values outside the window (metal, padding) or not finite are returned unchanged:
            the network has never seen them.

        Returns
        -------
        ndarray
            float32 of the same shape, in the unit of the scan.
        """
        original = np.asarray(original)
        # Compared in float64, as in `to_network`: float16 would round the ends of the window.
        exact = original.astype(np.float64)
        values = (np.asarray(restored, np.float64) * (self.high - self.low) + self.low).astype(np.float32)
        inside = (exact >= self.low) & (exact <= self.high)
        return np.where(inside, values, original.astype(np.float32))

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as plain values, to be stored with the result."""
        return asdict(self)


def choose_intensity(scan: Scan, modality: str | None = None) -> IntensityRule:
    """Choose the rule that suits a scan.

    Parameters
    ----------
    scan
        The scan; at most 16 evenly spaced slices of it are read, and none for CT or for PET in SUV.
    modality
        "CT", "MR" or "PET"; None takes the scan's own.

    Returns
    -------
    IntensityRule
        CT: -1024 to 3072 HU. PET in SUV: 0 to 20. MR on the scale of 12-bit scanners: 0 to 4095. Everything else gets
        a robust rule: from 0 (or the 0.1th percentile if there are negative values) up to where the 99.9th percentile
        becomes 0.6.

    Raises
    ------
    ScanError
        The scan has no fixed window, and its values exceed 1e38, near the limit of float32.
    """
    modality = modality or scan.modality
    if modality == "CT":
        return IntensityRule("ct-hu", *_CT_WINDOW_HU, unit="HU")
    if modality == "PET":
        if scan.unit == "SUV":
            return IntensityRule("pet-suv", *_PET_WINDOW_SUV, unit="SUV")
        return _robust_rule("pet-robust", _sampled_values(scan), scan.unit)
    values = _sampled_values(scan)
    if modality == "MR" and values.min() >= 0 and _DIMMEST_MR_4095 <= np.percentile(values, 99.9) <= _MR_WINDOW[1]:
        return IntensityRule("mr-4095", *_MR_WINDOW, unit="")
    return _robust_rule("mr-robust" if modality == "MR" else "robust", values, scan.unit)


def rule_for(scan: Scan, network: nn.Module, any_modality: bool) -> IntensityRule:
    """Choose the rule for a network: by the modality of the scan, else by that of the weights unless any is allowed."""
    return choose_intensity(scan, None if any_modality else scan.modality or card_of(network).modality)


def _sampled_values(scan: Scan) -> np.ndarray:
    """Return the finite values of a few evenly spaced slices, float64 and flat; a single 0 if there are none."""
    samples = [np.zeros(0)]
    for index in evenly_spaced(scan.shape[0], _SAMPLED_SLICES):
        end_if_cancelled()
        samples.append(np.asarray(scan.voxels[index], np.float64).ravel())
    values = np.concatenate(samples)
    finite = values[np.isfinite(values)]
    return finite if finite.size else np.zeros(1)


def _robust_rule(name: str, values: np.ndarray, unit: str) -> IntensityRule:
    check_range(values)
    dimmest, brightest = (float(value) for value in np.percentile(values, (0.1, 99.9)))
    low = min(dimmest, 0.0) if values.min() < 0 else 0.0
    # A constant scan has no contrast to scale by; any window that contains its value will do.
    width = (brightest - low) / _ROBUST_LEVEL or max(1.0, abs(low))
    return IntensityRule(name, low, low + width, unit)
