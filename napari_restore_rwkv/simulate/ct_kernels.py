"""CT reconstruction kernels, from very smooth to edge-enhancing, and the noise spectrum of each.

Filtered back-projection multiplies the spectrum of every projection by

    |f| A(f),    A(f) = (1 + b exp(-((f - f_b) / w)^2)) exp(-ln 2 (f / f_h)^p)

with the frequency f in cycles/mm. The apodisation A is a constant 1 for the plain ramp. White noise in the projections
becomes noise with the power spectrum |f| A(f)^2 in the image (Riederer, Pelc & Chesler, Phys. Med. Biol. 23, 1978).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BOOST_WIDTH = 0.35  # of the frequency of the boost, which is f_h / 2


@dataclass(frozen=True, slots=True)
class Kernel:
    """Apodisation of the ramp filter.

    Attributes
    ----------
    half
        Frequency f_h in cycles/mm at which the apodisation without its boost has fallen to one half; infinity for the
        plain ramp.
    steepness
        Exponent p of that fall.
    boost
        Height b of the edge enhancement around half of `half`; 0 for none.

    Raises
    ------
    ValueError
        If `half` or `steepness` is not positive, or `boost` is negative.
    """

    half: float
    steepness: float = 2.0
    boost: float = 0.0

    def __post_init__(self) -> None:
        if not (self.half > 0 and self.steepness > 0 and self.boost >= 0):
            raise ValueError(f"A kernel needs half > 0, steepness > 0 and boost >= 0; got {self}.")

    def apodisation(self, frequency: ArrayLike) -> NDArray[np.float64]:
        """Return A(f) for frequencies in cycles/mm, in their shape."""
        f = np.abs(np.asarray(frequency, np.float64))
        if math.isinf(self.half):
            return np.ones_like(f)
        falling = np.exp(-math.log(2) * (f / self.half) ** self.steepness)
        peak = self.half / 2
        return (1 + self.boost * np.exp(-(((f - peak) / (_BOOST_WIDTH * self.half)) ** 2))) * falling

    def noise_power(self, frequency: ArrayLike) -> NDArray[np.float64]:
        """Return |f| A(f)^2, the noise power spectrum up to a factor."""
        return np.abs(np.asarray(frequency, np.float64)) * self.apodisation(frequency) ** 2


# Half frequencies as measured for kernels of clinical scanners: soft-tissue kernels around 0.35, bone and lung kernels
# at 0.8 cycles/mm and more, with enhancement.
KERNELS = {
    "very smooth": Kernel(0.25),
    "smooth": Kernel(0.36),
    "standard": Kernel(0.48),
    "medium": Kernel(0.62),
    "sharp": Kernel(0.85, 3.0, 0.5),
    "edge-enhancing": Kernel(1.0, 3.0, 1.5),
    "ramp": Kernel(math.inf),
}


def random_kernel(rng: np.random.Generator) -> Kernel:
    """Draw a kernel from very smooth to edge-enhancing, no two alike."""
    half = float(np.exp(rng.uniform(np.log(0.22), np.log(1.6))))
    kernel = Kernel(half, steepness=float(rng.uniform(1.5, 5.0)))
    # Only sharp kernels enhance edges.
    if half > 0.5 and rng.random() < 0.5:
        kernel = replace(kernel, boost=float(rng.uniform(0.2, 2.0)))
    return kernel
