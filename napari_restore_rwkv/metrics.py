"""How close a restored scan is to its reference: PSNR, SSIM, RMSE and NRMSE, slice by slice.

The protocol is that of arXiv 2407.11087: every slice is scored by itself, its data range is max - min of that reference
slice (after clipping to the window, if there is one), and the scan's figure is the mean over the slices where the
figure is finite: a slice that equals its reference has an infinite PSNR, which would hide all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ScanError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

NAMES = ("psnr", "ssim", "rmse", "nrmse")

WINDOW_WIDTH = 11
WINDOW_SIGMA = 1.5


@dataclass(frozen=True, slots=True)
class SliceScore:
    """The figures of one slice.

    Attributes
    ----------
    psnr
        In dB; ``inf`` if the slices are identical, ``nan`` if the reference is constant and they are not.
        Like ``rmse`` and ``nrmse`` also ``nan`` if a voxel is not finite.
    ssim
        At most 1; ``nan`` if the reference is constant and the slices differ, or a side is under 11 pixels.
    rmse
        In the unit of the scan.
    nrmse
        ``rmse / data_range``; ``nan`` if the reference is constant and the slices differ.
    data_range
        max - min of the reference slice, in the unit of the scan, after clipping.
    """

    psnr: float
    ssim: float
    rmse: float
    nrmse: float
    data_range: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of a whole scan.

    Attributes
    ----------
    slices
        One `SliceScore` per slice, in the order of the first array axis.
    window
        Values were clipped to this (low, high) before scoring; None for no clipping.
    """

    slices: tuple[SliceScore, ...]
    window: tuple[float, float] | None = None

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each figure over the slices where it is finite.

        PSNR is inf only if all slices with a PSNR are identical; a figure that no slice has is nan.
        """
        return {name: _mean([getattr(score, name) for score in self.slices]) for name in NAMES}

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values: infinity is ``"inf"`` or ``"-inf"``, an undefined one None."""
        return {
            "window": None if self.window is None else list(self.window),
            "mean": {name: _json_number(value) for name, value in self.mean.items()},
            "slices": [
                {name: _json_number(getattr(score, name)) for name in (*NAMES, "data_range")} for score in self.slices
            ],
        }


def evaluate(restored: Any, reference: Any, window: tuple[float, float] | None = None) -> Evaluation:
    """Score a restored scan against its reference, slice by slice along the first axis.

    Parameters
    ----------
    restored, reference
        Arrays of shape (Z, Y, X) or (Y, X), or scans with such voxels; in the same unit.
    window
        (low, high), in the unit of the scan; both are clipped to it first. CT is usually scored in (-160, 240) HU.

    Raises
    ------
    ScanError
        If the two do not have the same shape, or are not made of slices.
    ValueError
        If the window is empty or does not have finite ends.
    """
    if window is not None and not -math.inf < window[0] < window[1] < math.inf:
        raise ValueError(
            f"The window {window[0]:g} to {window[1]:g} is empty or does not have finite ends: "
            "its low end must be below its high end."
        )
    image_slices, reference_slices = _as_slices(restored), _as_slices(reference)
    if image_slices.shape != reference_slices.shape:
        raise ScanError(
            f"The restored scan has {_voxels(image_slices.shape)} voxels and the reference "
            f"{_voxels(reference_slices.shape)}: choose two scans of the same size."
        )
    scores = tuple(
        score_slice(np.asarray(image_slices[z]), np.asarray(reference_slices[z]), window)
        for z in range(reference_slices.shape[0])
    )
    return Evaluation(scores, None if window is None else (float(window[0]), float(window[1])))


def score_slice(image: ArrayLike, reference: ArrayLike, window: tuple[float, float] | None = None) -> SliceScore:
    """Score one slice of shape (Y, X), after clipping both to the window."""
    shown, truth = _prepare(image, reference, window)
    spread = _range(truth)
    return SliceScore(
        psnr(shown, truth, spread), ssim(shown, truth, spread), rmse(shown, truth), nrmse(shown, truth, spread), spread
    )


def rmse(image: ArrayLike, reference: ArrayLike, *, window: tuple[float, float] | None = None) -> float:
    """Root mean square error of two slices of shape (Y, X), in their unit; nan if it is not finite."""
    shown, truth = _prepare(image, reference, window)
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.sqrt(np.mean(np.square(shown - truth))))
    return error if math.isfinite(error) else math.nan


def nrmse(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float | None = None,
    *,
    window: tuple[float, float] | None = None,
) -> float:
    """RMSE divided by the data range; nan if that is 0 and the slices differ.

    ``data_range`` defaults to max - min of the reference, after truncation to ``window``.
    """
    shown, truth = _prepare(image, reference, window)
    error, spread = rmse(shown, truth), _range(truth) if data_range is None else data_range
    if error == 0:
        return 0.0
    return error / spread if spread > 0 else math.nan


def psnr(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float | None = None,
    *,
    window: tuple[float, float] | None = None,
) -> float:
    """Peak signal-to-noise ratio of two slices of shape (Y, X) in dB: 20 log10(data_range / RMSE).

    ``data_range`` defaults to max - min of the reference, after truncation to ``window``. Identical slices give inf; a
    constant reference has no data range and gives nan.
    """
    shown, truth = _prepare(image, reference, window)
    error, spread = rmse(shown, truth), _range(truth) if data_range is None else data_range
    if error == 0:
        return math.inf
    # Also false for NaN, which marks an error that is not finite.
    return 20 * math.log10(spread / error) if spread / error > 0 else math.nan


def ssim(
    image: ArrayLike,
    reference: ArrayLike,
    data_range: float | None = None,
    *,
    window: tuple[float, float] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> float:
    """Mean structural similarity of two slices of shape (Y, X), of Wang et al. 2004 (IEEE TIP 13, 600-612).

        SSIM = (2 mx my + c1) (2 sxy + c2) / ((mx^2 + my^2 + c1) (sx^2 + sy^2 + c2))

    with c1 = (0.01 L)^2, c2 = (0.03 L)^2, L the data range, and means m and (co)variances s under an 11x11 Gaussian
    window of sigma 1.5 that sums to 1. Only windows entirely inside the slice count, and of those, if ``inside`` is
    given (shape (Y, X)), the ones whose centre is inside; without any the result is nan.

    ``data_range`` defaults to max - min of the reference, after truncation to ``window``. Identical slices give 1. A
    constant reference has no data range, and a slice with a side under 11 pixels has no window: both give nan.
    """
    shown, truth = _prepare(image, reference, window)
    spread = _range(truth) if data_range is None else data_range
    if np.array_equal(shown, truth):
        return 1.0
    if min(truth.shape) < WINDOW_WIDTH or not spread > 0:
        return math.nan
    # Python's own power operator would raise on overflow.
    c1, c2 = 0.0001 * spread * spread, 0.0009 * spread * spread
    with np.errstate(invalid="ignore", over="ignore"):
        mean_x, mean_y = _smooth(shown), _smooth(truth)
        variance_x = _smooth(shown * shown) - mean_x**2
        variance_y = _smooth(truth * truth) - mean_y**2
        covariance = _smooth(shown * truth) - mean_x * mean_y
        above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        similarity = above / below
    if inside is not None:
        margin = WINDOW_WIDTH // 2
        similarity = similarity[inside[margin:-margin, margin:-margin]]
    return float(np.mean(similarity)) if similarity.size else math.nan


def _smooth(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means under the Gaussian window, where it is entirely inside: shape (Y - 10, X - 10)."""
    offsets = np.arange(WINDOW_WIDTH) - WINDOW_WIDTH // 2
    weights = np.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (side - WINDOW_WIDTH + 1 for side in image.shape)
    rows = sum(weight * image[i : i + height] for i, weight in enumerate(weights))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(weights))


def _prepare(
    image: ArrayLike, reference: ArrayLike, window: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both slices in float64, clipped to the window."""
    shown, truth = np.asarray(image, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if shown.shape != truth.shape or truth.ndim != 2 or truth.size == 0:
        raise ScanError(
            f"A slice of {_voxels(shown.shape)} cannot be scored against one of {_voxels(truth.shape)}: "
            "give two slices with the same number of rows and columns."
        )
    if window is None:
        return shown, truth
    return np.clip(shown, *window), np.clip(truth, *window)


def _range(reference: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        return float(reference.max() - reference.min())


def _as_slices(scan: Any) -> Any:
    """The voxels of a scan or array, as slices along the first axis; lazy ones stay lazy."""
    voxels = getattr(scan, "voxels", scan)
    voxels = voxels if hasattr(voxels, "shape") else np.asarray(voxels)
    if len(voxels.shape) == 2:
        return np.asarray(voxels)[np.newaxis]
    if len(voxels.shape) != 3 or 0 in voxels.shape:
        raise ScanError(
            f"An array of {_voxels(voxels.shape)} is not a scan: give (Z, Y, X) voxels or one (Y, X) slice."
        )
    return voxels


def _voxels(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no"


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    finite = [value for value in defined if math.isfinite(value)]
    if finite:
        return math.fsum(finite) / len(finite)
    return defined[0] if defined else math.nan


def _json_number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isfinite(value):
        return value
    return "inf" if value > 0 else "-inf"
