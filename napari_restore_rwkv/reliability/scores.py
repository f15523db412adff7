"""How close a slice, or a region of it, is to a reference: all figures at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..image_quality.haarpsi import haarpsi
from ..metrics import nrmse, psnr, rmse, ssim

if TYPE_CHECKING:
    from numpy.typing import NDArray

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one slice or region; nan if undefined.

    Attributes
    ----------
    psnr
        In dB, for the range of the whole reference slice; inf if nothing differs.
    ssim, haarpsi
        At most 1.
    rmse
        In the unit of the slices.
    nrmse
        RMSE divided by the range.
    """

    psnr: float
    ssim: float
    rmse: float
    nrmse: float
    haarpsi: float


def data_range(reference: np.ndarray, window: Window | None) -> float:
    """Max - min of a reference slice after clipping to the window."""
    return float(np.ptp(reference if window is None else np.clip(reference, *window)))


def scores(
    image: np.ndarray, reference: np.ndarray, window: Window | None = None, inside: NDArray[np.bool_] | None = None
) -> Scores:
    """Compare a slice with its reference, both of shape (Y, X), after clipping to the window.

    Parameters
    ----------
    inside
        Which pixels count, shape (Y, X), not empty; None for all. SSIM and HaarPSI also include their surroundings. The
        range remains that of the whole slice, so that a region is comparable with it.
    """
    shown, truth = (one if window is None else np.clip(one, *window) for one in (image, reference))
    spread = data_range(truth, None)
    chosen = (shown, truth) if inside is None else (shown[inside][np.newaxis], truth[inside][np.newaxis])
    return Scores(
        psnr(*chosen, spread),
        ssim(shown, truth, spread, inside=inside),
        rmse(*chosen),
        nrmse(*chosen, spread),
        haarpsi(shown, truth, spread, inside),
    )
