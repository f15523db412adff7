"""CT phantoms: uniform water, faint discs in it, rods of many contrasts, and the anatomy of a scan.

All are slices of 256 x 256 pixels in HU, of 0.8 mm unless the scanner says otherwise: the body spans 225 of them. Noise
depends on kernel and position as in `simulate.ct_noise`; or every realisation is counted in projections and
reconstructed (`simulate.ct`), a different noise model from the one that weights are trained on. Rods are blurred by
the kernel, whose |f| A(f) leaves A(f) of every detail. The faint discs are not: the question is whether they survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..simulate.ct import added_noise
from ..simulate.ct_kernels import KERNELS
from ..simulate.ct_noise import NoiseShape, noise_realisation, noise_shape
from .contrast import disc

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE, PIXEL_MM = 256, 0.8
WATER_PX = 225.0
AIR_HU = -1000.0
# Contrast in HU and diameter in pixels, as faint as the discs of the usual low-contrast phantoms.
FAINT = ((3.0, 15.0), (5.0, 11.0), (7.0, 7.0), (14.0, 4.0))
RODS_HU = (-1000.0, -340.0, -100.0, -30.0, 30.0, 100.0, 340.0, 1000.0)
ROD_RADIUS, ROD_REACH = 14.0, 9.0
_APART = 34


@dataclass(frozen=True, slots=True)
class Scanner:
    """How slices are acquired.

    Attributes
    ----------
    noise_hu
        Noise at the centre, in HU.
    kernel
        Name of a kernel of `simulate.ct_kernels`.
    pixel_mm
        Side of a pixel of the phantoms in mm, which follows from the field of view.
    projected
        Whether each realisation of the noise is projected and reconstructed.
    """

    noise_hu: float
    kernel: str
    pixel_mm: float = PIXEL_MM
    projected: bool = False

    def __str__(self) -> str:
        size = "" if self.pixel_mm == PIXEL_MM else f", {self.pixel_mm:g} mm pixels"
        return f"{self.noise_hu:g} HU, {self.kernel} kernel{size}{', projected' if self.projected else ''}"


def water() -> NDArray[np.float64]:
    """Return a cylinder of water in air."""
    return AIR_HU * (1 - disc((SIDE, SIDE), (SIDE / 2 - 0.5, SIDE / 2 - 0.5), WATER_PX))


def places() -> list[tuple[int, int]]:
    """Return the centres (y, x) of faint discs: a grid within the water, 34 pixels apart."""
    steps = _APART * np.arange(-2.5, 3)
    limit = WATER_PX / 2 - 20
    return [(int(SIDE / 2 + y), int(SIDE / 2 + x)) for y in steps for x in steps if np.hypot(y, x) <= limit]


def faint_discs(turn: int) -> list[tuple[int, tuple[int, int], NDArray[np.float64]]]:
    """Return for every place the number of its disc in `FAINT`, the place, and the disc in HU, (SIDE, SIDE).

    With each turn the discs move on by one place, so that each visits all places.
    """
    found = []
    for index, place in enumerate(places()):
        kind = (index + turn) % len(FAINT)
        contrast, diameter = FAINT[kind]
        found.append((kind, place, contrast * disc((SIDE, SIDE), place, diameter)))
    return found


def rods(scanner: Scanner) -> tuple[NDArray[np.float64], dict[float, tuple[float, float]]]:
    """Return water with rods, as sharp as the scanner is, and the centre of each by its contrast in HU."""
    image, centres = water(), {}
    for number, contrast in enumerate(RODS_HU):
        angle = 2 * np.pi * number / len(RODS_HU)
        centre = (SIDE / 2 + 72 * np.sin(angle) + 0.2, SIDE / 2 + 72 * np.cos(angle) - 0.3)
        centres[contrast] = centre
        image += contrast * disc((SIDE, SIDE), centre, 2 * ROD_RADIUS)
    return blurred(image, scanner.kernel, scanner.pixel_mm), centres


def blurred(image: np.ndarray, kernel: str, pixel_mm: float) -> NDArray[np.float64]:
    """Return an image as sharp as the kernel leaves it."""
    along = [np.fft.fftfreq(length, pixel_mm) for length in image.shape]
    gain = KERNELS[kernel].apodisation(np.hypot(along[0][:, None], along[1]))
    result: NDArray[np.float64] = np.fft.ifft2(np.fft.fft2(image) * (gain / gain[0, 0])).real
    return result


def realisations(
    image: np.ndarray, scanner: Scanner, count: int, rng: np.random.Generator, pixel_mm: float | None = None
) -> NDArray[np.float32]:
    """Return pure noise, (count, Y, X), for a square slice in HU; None takes the pixels of the scanner."""
    pixel_mm = scanner.pixel_mm if pixel_mm is None else pixel_mm
    kernel = KERNELS[scanner.kernel]
    if scanner.projected:
        seeds = rng.integers(2**31, size=count)
        drawn = [added_noise(image, pixel_mm, scanner.noise_hu, seed=int(seed), kernel=kernel) for seed in seeds]
    else:
        shape: NoiseShape = noise_shape(image, pixel_mm)
        size = (image.shape[0], image.shape[1])
        drawn = [noise_realisation(shape, size, pixel_mm, kernel, scanner.noise_hu, rng) for _ in range(count)]
    return np.stack(drawn).astype(np.float32)
