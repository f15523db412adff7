"""What the networks are trained to make small; images have shape (B, 1, Y, X)."""

import torch
from torch import Tensor

# How much errors count that are put right after restoration, beside those that are not.
ALL_FREQUENCIES = 0.25
_LESIONS = 0.03
# Fainter ones lie beyond the field of view of the scanner, where nothing was measured.
_HOT = 0.02


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
    return (unmeasured + ALL_FREQUENCIES * _root(power.mean(dim=(1, 2, 3)))) / (1 + ALL_FREQUENCIES)


def lesion_error(
    restored: Tensor, clean: Tensor, degraded: Tensor | None = None, lesions: Tensor | None = None
) -> Tensor:
    """`root_error`, and 0.03 times how far the mean of each hot lesion is off, relative to its true mean.

    Whatever makes small errors on average makes small hot lesions fainter; this is what it may not do.

    Parameters
    ----------
    lesions
        The number of the lesion that a pixel belongs to, from 1, in the shape of the images; 0 elsewhere. None, or none
        in any image: plain `root_error`.
    """
    error = root_error(restored, clean)
    if lesions is None or not lesions.any():
        return error
    off = []
    for number in range(1, int(lesions.max()) + 1):
        inside = lesions == number
        pixels = inside.flatten(1).sum(dim=1).clamp(min=1)
        means = [(image * inside).flatten(1).sum(dim=1) / pixels for image in (restored - clean, clean)]
        hot = means[1] > _HOT
        off.append(means[0][hot].abs() / means[1][hot])
    shares = torch.cat(off)
    return error + _LESIONS * shares.mean() if shares.numel() else error


def _root(squares: Tensor) -> Tensor:
    """Mean of roots; the small constant keeps the gradient of an image that is right already finite."""
    return (squares + 1e-6).sqrt().mean()
