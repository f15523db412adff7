"""Bodies with organs, and noise of a known spectrum: what the measurement of noise is tried on."""

import functools

import numpy as np

# Apodisation by frequency in cycles per pixel, behind a ramp: what a CT kernel leaves of white noise in projections.
KERNELS = {
    "very smooth": lambda f: np.where(f < 0.2, 0.5 + 0.5 * np.cos(np.pi * f / 0.2), 0),
    "soft": lambda f: np.where(f < 0.3, 0.5 + 0.5 * np.cos(np.pi * f / 0.3), 0),
    "Hann": lambda f: np.where(f < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * f), 0),
    "ramp": lambda f: np.where(f < 0.5, 1.0, 0),
    "edge-enhancing": lambda f: np.where(f < 0.5, 1 + 8 * f**2, 0),
}


def distance(side):
    return np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))


def spectrum_of(kernel, side):
    """Noise power |f| A(f)^2 of a kernel, and all ones for "white"; (side, side)."""
    f = distance(side)
    return np.ones_like(f) if kernel == "white" else f * KERNELS[kernel](f) ** 2


def noise_of(kernel, side, rng):
    """Noise of variance 1, (side, side), with that spectrum."""
    power = spectrum_of(kernel, side)
    white = np.fft.fft2(rng.standard_normal((side, side)))
    return np.fft.ifft2(white * np.sqrt(power / power.mean())).real


def around(centre, reach, side):
    """The pixels of an axis from -1 to 1 that are within `reach` of `centre`, and a few more."""
    first, last = ((centre + sign * reach + 1) * side / 2 for sign in (-1, 1))
    return slice(max(int(first) - 1, 0), int(last) + 2)


@functools.cache
def body(side=256, seed=3, organs=60):
    """A trunk in HU, (side, side): fat, lungs, a spine, and organs and vessels of many sizes at random places."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * (2 / side)
    radius = np.hypot(y / 0.72, x / 0.9)
    image = np.where(radius < 1, -100.0, -1000.0)
    image[radius < 0.9] = 40
    for centre in (-0.5, 0.5):
        image[np.hypot((y + 0.35) / 0.25, (x - centre) / 0.22) < 1] = -850
    image[np.hypot(y - 0.45, x) < 0.1] = 400
    for _ in range(organs):
        at_y, at_x, reach = rng.uniform(-0.55, 0.55), rng.uniform(-0.7, 0.7), rng.gamma(2, 0.03)
        near = around(at_y, reach, side), around(at_x, reach, side)
        inside = np.hypot(y[near] - at_y, x[near] - at_x) < reach
        image[near][inside & (image[near] == 40)] = rng.uniform(-60, 160)
    image.setflags(write=False)
    return image
