"""Non-local means, the classical filter, in place of a network: for tasks whose weights are not good enough.

Every pixel becomes the mean of those around it, each weighted by the similarity of the patches around the two (Buades,
Coll and Morel, CVPR 2005). The strength of the filter follows from the noise of the slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from .restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATCH, _REACH = 5, 6
# Ratio of the standard deviation of a normal distribution to its median absolute value.
_NORMAL = 1.4826
_LEAST_NOISE = 1e-6


class NonLocalMeans(Restorer):
    """The filter as a module that maps (B, 1, Y, X) to the same shape.

    Parameters
    ----------
    strength
        The filter parameter h, as a multiple of the noise that `fine_noise` finds.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        # Not trainable, but part of what a result depends on, and moved to the device with the module.
        self.strength = nn.Parameter(torch.tensor(float(strength)), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Filter each slice in float32; search window 13 x 13, uniform patches of 5 x 5."""
        for result in self.stages(image):
            filtered = result
        return filtered

    def stages(self, image: Tensor, *, in_strips: bool = False) -> Iterator[Tensor]:
        """Filter as `forward` does, yielding after each row of the search window; the last of 14 values is the result.

        A caller can show progress, or stop, within one large image.
        """
        image = image.float()
        variance = fine_noise(image) ** 2
        height, width = image.shape[2:]
        margin = _PATCH // 2
        padded = functional.pad(image, [_REACH + margin] * 4, mode="replicate")

        def shifted(down: int, right: int, extra: int) -> Tensor:
            top, left = _REACH + margin - extra + down, _REACH + margin - extra + right
            return padded[:, :, top : top + height + 2 * extra, left : left + width + 2 * extra]

        centre = shifted(0, 0, margin)
        total, weights = torch.zeros_like(image), torch.zeros_like(image)
        for down in range(-_REACH, _REACH + 1):
            for right in range(-_REACH, _REACH + 1):
                squares = (shifted(down, right, margin) - centre).square_()
                # The distance that noise alone creates between equal patches does not count.
                unlike = patch_means(squares).sub_(2 * variance).clamp_(min=0)
                weight = unlike.div_(-variance * self.strength.float() ** 2).exp_()
                total.addcmul_(weight, shifted(down, right, 0))
                weights += weight
            yield total
        yield total / weights


def patch_means(image: Tensor) -> Tensor:
    """Means over the patches of 5 x 5 that lie inside, (B, C, Y, X) -> (B, C, Y - 4, X - 4).

    Down and then across; `avg_pool2d` adds all 25 pixels, on one CPU core, and takes three times as long.
    """
    for axis in (2, 3):
        length = image.shape[axis] - _PATCH + 1
        total = image.narrow(axis, 0, length) + image.narrow(axis, 1, length)
        for start in range(2, _PATCH):
            total += image.narrow(axis, start, length)
        image = total
    return image.div_(_PATCH**2)


def fine_noise(image: Tensor) -> Tensor:
    """Estimate the noise of slices at their finest scale, (B, 1, Y, X) -> (B, 1, 1, 1).

    The median of the differences across 2 x 2 pixels (the diagonal of a Haar wavelet; Donoho and Johnstone 1994), where
    a slice is at least half as bright as its mean: background is often empty. For white noise it is the standard
    deviation, for the smooth noise of a reconstruction a fraction of it.
    """
    corners = image[:, :, :-1, :-1] - image[:, :, :-1, 1:] - image[:, :, 1:, :-1] + image[:, :, 1:, 1:]
    noise = []
    for one, detail in zip(image, corners, strict=True):
        object_ = one[:, :-1, :-1] >= one.mean() / 2
        noise.append(_NORMAL * (detail[object_] / 2).abs().median() if object_.any() else one.new_zeros(()))
    return torch.stack(noise).clamp(min=_LEAST_NOISE).view(-1, 1, 1, 1)
