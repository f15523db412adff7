"""What the networks are trained to make small; images have shape (B, 1, Y, X)."""

import torch
from torch import Tensor

_ALL_FREQUENCIES = 0.25


def root_error(restored: Tensor, clean: Tensor, *_: Tensor) -> Tensor:
    """Mean over the batch of each image's root mean square error.

    Its gradient is as long for an image that is almost right as for one that is far off: closer to PSNR than the
    absolute error, and unlike the logarithm of the error not ruled by crops with next to nothing in them.
    """
    return _root((restored - clean).square().mean(dim=(1, 2, 3)))


def unmeasured_error(
    restored: Tensor, clean: Tensor, degraded: Tensor | None = None, measured: Tensor | None = None
) -> Tensor:
    """`root_error` of the frequencies that were not measured, and a quarter of that of all frequencies.

    Parameters
    ----------
    measured
        Which coefficients of the 2-D FFT were measured, True or False, in the shape of the images: after restoration
        they are put back. None for images whose frequencies were all measured, or none: plain `root_error`.
    """
    if measured is None:
        return root_error(restored, clean)
    power = torch.fft.fft2(restored - clean, norm="ortho").abs().square()
    unmeasured = _root((power * ~measured).mean(dim=(1, 2, 3)))
    return (unmeasured + _ALL_FREQUENCIES * _root(power.mean(dim=(1, 2, 3)))) / (1 + _ALL_FREQUENCIES)


def _root(squares: Tensor) -> Tensor:
    """Mean of roots; the small constant keeps the gradient of an image that is right already finite."""
    return (squares + 1e-6).sqrt().mean()
