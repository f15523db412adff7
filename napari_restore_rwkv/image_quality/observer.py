"""Whether a faint thing can be seen: a channelised Hotelling observer, as a model of a trained reader.

    v = U^T g,    w = K^-1 (<v | present> - <v | absent>),    t = w . v,    AUC = P(t present > t absent)

K is the mean of the two covariance matrices of the channel outputs v (Barrett & Myers 2004; Wunderlich & Noo 2008). The
template w comes from one half of the pairs, the AUC from the other. Internal noise is added to t in proportion to its
deviation without a signal, as human readers waver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Detectability:
    """What an observer reached on pairs that it was not trained on.

    Attributes
    ----------
    auc
        Area under the ROC curve, 0.5 for guessing and 1 for certainty.
    low, high
        Ends of the 95 % interval of the AUC, by bootstrap over the pairs.
    """

    auc: float
    low: float
    high: float


def laguerre_gauss(side: int, width: float, count: int = 6) -> NDArray[np.float64]:
    """Laguerre-Gauss channels for round signals: (side * side, count), orthonormal up to sampling.

    u_j(r) = (sqrt(2) / a) exp(-pi r^2 / a^2) L_j(2 pi r^2 / a^2),    a: `width` in pixels (Gallas & Barrett 2003)
    """
    along = np.arange(side) - (side - 1) / 2
    square = 2 * np.pi * (along[:, None] ** 2 + along**2) / width**2
    laguerre = [np.polynomial.laguerre.lagval(square, np.eye(count)[j]) for j in range(count)]
    channels = np.stack(laguerre) * np.exp(-square / 2) * (np.sqrt(2) / width)
    return channels.reshape(count, -1).T


def detectability(
    present: np.ndarray,
    absent: np.ndarray,
    channels: np.ndarray,
    *,
    internal_noise: float = 0.0,
    seed: int = 0,
    resampled: int = 500,
) -> Detectability:
    """Train an observer on the first half of pairs of regions, and test it on the second.

    Parameters
    ----------
    present, absent
        Regions with and without the signal at their centre, (n, side, side); pair i may share its noise, and regions of
        one realisation should be adjacent, so that the halves do not share any.
    channels
        Shape (side * side, channels).
    internal_noise
        Standard deviation of the observer's own noise, as a multiple of that of its responses without a signal.
    seed
        Of the internal noise and the bootstrap.
    resampled
        Number of bootstrap resamplings for the interval.
    """
    half = len(present) // 2
    if half <= channels.shape[1]:
        raise ValueError(
            f"An observer of {channels.shape[1]} channels needs more than {2 * channels.shape[1]} pairs; "
            f"got {len(present)}."
        )
    seen, empty = (np.asarray(one, np.float64).reshape(len(one), -1) @ channels for one in (present, absent))
    covariance = (np.cov(seen[:half].T) + np.cov(empty[:half].T)) / 2
    template = np.linalg.lstsq(np.atleast_2d(covariance), (seen[:half] - empty[:half]).mean(axis=0), rcond=1e-10)[0]
    with_signal, without = seen[half:] @ template, empty[half:] @ template
    rng = np.random.default_rng(seed)
    waver = internal_noise * without.std()
    with_signal = with_signal + waver * rng.standard_normal(len(with_signal))
    without = without + waver * rng.standard_normal(len(without))
    wins = (with_signal[:, None] > without) + 0.5 * (with_signal[:, None] == without)
    draws = rng.integers(len(wins), size=(resampled, len(wins)))
    areas = [float(wins[np.ix_(draw, draw)].mean()) for draw in draws]
    low, high = np.quantile(areas, (0.025, 0.975))
    return Detectability(float(wins.mean()), float(low), float(high))
