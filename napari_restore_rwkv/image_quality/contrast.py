"""What a filter preserves of a faint object, and how it changes values: all in images of shape (Y, X)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contrast_kept(with_probe: np.ndarray, without: np.ndarray, probe: np.ndarray) -> float:
    """Fraction of a probe that a filter preserves, with the same noise in both images.

        kept = <net(x + s) - net(x), s> / <s, s>

    1 is all of it, 0 none. For a uniform disc it is the mean over the disc of what is left, over its contrast: the
    local transfer of AAPM TG-233 (task transfer), at the contrast of the task, since such filters are nonlinear.

    Parameters
    ----------
    with_probe, without
        net(x + s) and net(x), shape (Y, X).
    probe
        s, in the same shape and unit; not 0 everywhere.
    """
    s = np.asarray(probe, np.float64)
    return float(((np.asarray(with_probe, np.float64) - without) * s).sum() / (s * s).sum())


def disc(shape: tuple[int, int], centre: tuple[float, float], diameter: float) -> NDArray[np.float64]:
    """Return the fraction of each pixel that a disc covers, 0 to 1; centre (y, x) and diameter in pixels.

    The edge is a ramp one pixel wide, which is accurate to a few thousandths of the area.
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    covered: NDArray[np.float64] = np.clip(diameter / 2 - distance + 0.5, 0, 1)
    return covered


@dataclass(frozen=True, slots=True)
class Values:
    """How well values are preserved in uniform regions, in the unit of the images.

    Attributes
    ----------
    bias
        Mean of the image over all regions, minus the true value.
    uniformity
        Largest difference between the mean of a region and that of the first, the central one (IEC 61223-3-5).
    noise
        Standard deviation within a region, root mean square over the regions.
    """

    bias: float
    uniformity: float
    noise: float


def values_in(image: np.ndarray, regions: list[NDArray[np.bool_]], truth: float) -> Values:
    """Measure bias, uniformity and noise in regions, masks of the shape of the image, the central one first."""
    means = [float(image[region].mean()) for region in regions]
    deviations = [float(image[region].std()) for region in regions]
    return Values(
        float(np.mean(means)) - truth,
        max(abs(mean - means[0]) for mean in means),
        float(np.sqrt(np.mean(np.square(deviations)))),
    )
