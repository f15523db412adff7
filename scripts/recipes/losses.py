"""The loss functions of the networks; images have shape (B, 1, Y, X)."""

import torch
from torch import Tensor

from napari_restore_rwkv.training.crop_sampler import ALL_FREQUENCIES
from napari_restore_rwkv.training.train import mean_root, root_error

_LESIONS = 0.03
# Fainter ones are outside the scanner's field of view, where nothing was measured.
_HOT = 0.02


def unmeasured_error(
    restored: Tensor, clean: Tensor, degraded: Tensor | None = None, measured: Tensor | None = None
) -> Tensor:
    """`root_error` of the unmeasured frequencies, plus a quarter of that of all frequencies.

    Parameters
    ----------
    measured
        Which coefficients of the 2-D FFT were measured, True or False, in the shape of the images: after restoration
        they are put back. None for images whose frequencies were all measured, or none: plain `root_error`.
    """
    if measured is None:
        return root_error(restored, clean)
    power = torch.fft.fft2(restored - clean, norm="ortho").abs().square()
    unmeasured = mean_root((power * ~measured).mean(dim=(1, 2, 3)))
    return (unmeasured + ALL_FREQUENCIES * mean_root(power.mean(dim=(1, 2, 3)))) / (1 + ALL_FREQUENCIES)


def lesion_error(
    restored: Tensor, clean: Tensor, degraded: Tensor | None = None, lesions: Tensor | None = None
) -> Tensor:
    """`root_error`, plus 0.03 times the error of the mean of each hot lesion, relative to its true mean.

    Minimising the average error makes small hot lesions fainter; this term prevents that.

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


def transfer_error(
    restored: Tensor,
    clean: Tensor,
    degraded: Tensor,
    signal: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    weight: float = 0.0015,
) -> Tensor:
    """`root_error`, plus the contrast error of faint probes that were added to half of the images.

    The first half of a batch is its second half with probes added, with the same noise. So the difference between the
    two outputs is what the network leaves of the probes (task transfer, AAPM TG-233), whatever the noise: for each
    probe, t = <restored - restored without, signal> / <signal, signal> over its pixels, and the error is (t - 1)^2.

    Parameters
    ----------
    signal
        What the probes add, in network units, shape (B, 1, Y, X); zero in the second half.
    labels
        Number of the probe that a pixel belongs to, from 1; 0 elsewhere.
    weights
        How much a probe counts, 0 to 1, at its pixels: less if it is hidden by the noise. All zero, as in a batch
        without pairs: plain `root_error`.
    weight
        Of the errors of the probes, relative to a root error of some 0.003.
    """
    error = root_error(restored, clean)
    if not weights.any():
        return error
    half = len(restored) // 2
    kept = restored[:half] - restored[half:]
    total, count = restored.new_zeros(()), 0
    for number in range(1, int(labels.max()) + 1):
        inside = (labels[:half] == number).flatten(1)
        there = inside.any(dim=1)
        pattern = signal[:half].flatten(1) * inside
        transfer = (kept.flatten(1) * pattern).sum(1)[there] / pattern.square().sum(1)[there]
        counted = (weights[:half].flatten(1) * inside).amax(1)[there]
        total = total + (counted * (transfer - 1).square()).sum()
        count += len(transfer)
    return error + weight * total / max(count, 1)
