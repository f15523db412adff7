"""Ways to show what a restoration changed: in units, as a magnitude, relative to the scan, relative to its noise."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from ..scans.noise.estimate import slice_noise
from .places import interpolated

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMIT_PERCENTILE = 99.5
# HU are relative to water; the attenuation, of which they are thousandths, starts at zero.
_HU_OF_NOTHING = -1000.0
_BLOCK = 16
# Fraction of the deviation of the whole slice: where a scanner clipped values there is no noise to divide by.
_LEAST_NOISE = 0.2


class Mode(Enum):
    """How a difference is shown."""

    SIGNED = "signed"
    ABSOLUTE = "absolute"
    RELATIVE = "relative"
    IN_NOISE = "in local noise"

    @property
    def has_sign(self) -> bool:
        """Whether its colour map is diverging."""
        return self is not Mode.ABSOLUTE


def unit_of(mode: Mode, unit: str) -> str:
    """Return the unit of a mode in words, such as ``"% of HU + 1000"``; `unit` is that of the scan or ""."""
    if mode is Mode.IN_NOISE:
        return "multiples of the noise"
    if mode is Mode.RELATIVE:
        return "% of HU + 1000" if unit == "HU" else "% of the input"
    return unit or "units of the scan"


def short_unit_of(mode: Mode, unit: str) -> str:
    """Return the unit of a mode as it follows a number, such as ``"%"``; "" if there is none."""
    if mode is Mode.IN_NOISE:
        return "x noise"
    return "%" if mode is Mode.RELATIVE else unit


def words_of(mode: Mode) -> str:
    """Return what is shown, such as ``"|restored - input|"``."""
    return "|restored - input|" if mode is Mode.ABSOLUTE else "restored - input"


def as_seen(
    change: np.ndarray, before: np.ndarray, mode: Mode, unit: str, least: float, noise: np.ndarray | None = None
) -> NDArray[np.float32]:
    """Return a difference as shown in a mode.

    Parameters
    ----------
    change, before
        restored - input, and the input, in the same shape and unit.
    mode
        The way to show it.
    unit
        Of the scan; for HU the change is relative to the attenuation, HU + 1000.
    least
        If the input, or the attenuation, is not above this there is no relative change: nan.
    noise
        `local_noise` of the same pixels; needed `IN_NOISE`.
    """
    change = change.astype(np.float32)
    if mode is Mode.SIGNED:
        return change
    if mode is Mode.ABSOLUTE:
        return np.abs(change)
    if mode is Mode.IN_NOISE:
        assert noise is not None, "the noise has to be measured first"
        return change / noise
    whole = before.astype(np.float32) - (_HU_OF_NOTHING if unit == "HU" else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(np.abs(whole) > least, 100 * change / whole, np.nan)
    return share.astype(np.float32)


def local_noise(image: np.ndarray, modality: str | None) -> NDArray[np.float32]:
    """Return the standard deviation of the noise around each pixel, in the unit of the slice.

    Its strength over the whole slice comes from `slice_noise`; its distribution from the second differences along both
    axes, which contain little anatomy, as medians in blocks of 16 x 16 pixels, interpolated smoothly between them.

    Parameters
    ----------
    image
        Finite values, shape (Y, X), 16 pixels or more along each side.
    modality
        Of the scan; None if unknown.
    """
    values = image.astype(np.float64)
    rough = values.copy()
    for axis in (0, 1):
        padded = np.pad(rough, [(1, 1) if axis == at else (0, 0) for at in (0, 1)], mode="reflect")
        rough = np.diff(padded, 2, axis)
    down, across = (length // _BLOCK for length in values.shape)
    kept = np.abs(rough[: down * _BLOCK, : across * _BLOCK]).reshape(down, _BLOCK, across, _BLOCK)
    spread = np.median(kept, axis=(1, 3))
    known = spread[spread > 0]
    if not known.size:
        return np.full(values.shape, np.nan, np.float32)
    level = np.median(known)
    spread = np.maximum(spread / level, _LEAST_NOISE) * slice_noise(image, modality).sigma
    # Known at the centres of the blocks.
    rows, columns = (_BLOCK * (np.arange(count) + 0.5) - 0.5 for count in spread.shape)
    return interpolated(spread, rows, columns, values.shape).astype(np.float32)


def limit_of(seen: np.ndarray) -> float:
    """Return the 99.5th percentile of the magnitude of finite values, for display limits; 1 if all are 0."""
    finite = np.abs(seen[np.isfinite(seen)])
    return float(np.percentile(finite, LIMIT_PERCENTILE)) or 1.0 if finite.size else 1.0
