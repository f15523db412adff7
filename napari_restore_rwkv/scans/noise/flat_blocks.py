"""Blocks of soft tissue that contain noise but no anatomy, according to their spectra.

Blocks are compared by the power in the rings of their spectra (see `block_spectra`), not by their variance: remaining
anatomy in a block is at low frequencies, and in smooth noise few values of a block are independent. In each ring the
noise level is a low quantile over the blocks, corrected for how far such a quantile is below the mean. Blocks that
exceed it anywhere contain anatomy; the level is then estimated again from the others, until the choice is stable.
"""

from __future__ import annotations

import numpy as np

from .block_spectra import block_spectra, radial, rings

# Smallest side of a slice, and the side of the blocks that it is divided into.
_SIDES = ((256, 24), (112, 16), (0, 8))
_MOST_BLOCKS = 400
# This many are always taken, flat or not.
FEWEST_BLOCKS = 6
_FEWEST_CANDIDATES, _ENOUGH_BLOCKS = 24, 10
_SOFT_HU, _PART_HU = (-200.0, 250.0), 200.0
_CENTRE = 0.7  # of the half axes of the body
_QUANTILE, _NORMAL_QUANTILE = 0.1, -1.2816
_OUTLYING = 3.5  # in standard deviations of a normal distribution
_ROUNDS = 4
_ANATOMY_BELOW = 0.13  # cycles per pixel


def block_side(shape: tuple[int, ...]) -> int:
    """Side of the blocks for a slice of this shape: 24 pixels, or 16 or 8 in a small one."""
    return next(side for least, side in _SIDES if min(shape) >= least)


def cut(image: np.ndarray, side: int, corners: np.ndarray) -> np.ndarray:
    """Return blocks (B, side, side) by the rows and columns of their first pixels, (B, 2)."""
    blocks: np.ndarray = np.lib.stride_tricks.sliding_window_view(image, (side, side))[corners[:, 0], corners[:, 1]]
    return blocks


def flat_blocks(image: np.ndarray, modality: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Find the flat blocks of soft tissue in the middle of the body, or in all of the body if there are too few.

    Parameters
    ----------
    image
        Finite values, shape (Y, X), 16 pixels or more along each side.
    modality
        "CT" for values in HU; otherwise the body is whatever is bright.

    Returns
    -------
    corners, power
        First pixels of the blocks, (B, 2), and the power of their rings, (B, rings); B is at least 1.
    """
    side = block_side(image.shape)
    corners, distances = _soft(image, side, modality)
    order = np.argsort(distances, kind="stable")
    central = max(int((distances <= (_CENTRE if modality == "CT" else 1)).sum()), _FEWEST_CANDIDATES)
    for count in (central, len(corners)):
        tried = corners[order[:count][:_MOST_BLOCKS]]
        power = radial(np.abs(block_spectra(cut(image, side, tried))) ** 2, side)
        flat = without_anatomy(power, side)
        if flat.sum() >= _ENOUGH_BLOCKS:
            break
    return tried[flat], power[flat]


def without_anatomy(power: np.ndarray, side: int) -> np.ndarray:
    """Which blocks contain only noise, (B,), by the power of their rings (B, rings); at least the six flattest."""
    freedom = rings(side).freedom
    # The cube root of chi-square over its degrees of freedom is nearly normal (Wilson and Hilferty 1931).
    centre, spread = 1 - 2 / (9 * freedom), np.sqrt(2 / (9 * freedom))
    level = np.quantile(power, _QUANTILE, axis=0) / (centre + _NORMAL_QUANTILE * spread).clip(min=0.1) ** 3
    flat = np.ones(len(power), bool)
    for _ in range(_ROUNDS):
        expected = bounded(level / rings(side).kept, side) * rings(side).kept
        ratio = np.divide(power, expected, out=np.where(power > 0, np.inf, 0.0), where=expected > 0)
        score = ((np.cbrt(ratio) - centre) / spread).max(axis=1)
        flat = score <= max(_OUTLYING, np.sort(score)[:FEWEST_BLOCKS][-1])
        level = power[flat].mean(axis=0)
    return flat


def bounded(level: np.ndarray, side: int) -> np.ndarray:
    """Noise power ring by ring, limited at the lowest frequencies to what noise can have there: the rest is anatomy.

    The logarithm of the noise spectrum is assumed to be concave, as it is after a ramp, a Gaussian, a cosine window, or
    no filter: towards frequency 0 it rises no faster than above. That of anatomy, a power law in the frequency above a
    noise floor, is not.
    """
    logarithm = np.log(level + 1e-12 * level.max() + np.finfo(float).tiny)
    for ring in range(int((rings(side).frequencies <= _ANATOMY_BELOW).sum()) - 1, -1, -1):
        above, slope = logarithm[ring + 1], (logarithm[ring + 1] - logarithm[ring + 3]) / 2
        logarithm[ring] = min(logarithm[ring], above + max(slope, 0.0))
    limited: np.ndarray = np.minimum(level, np.exp(logarithm))
    return limited


def block_means(image: np.ndarray, side: int, step: int) -> np.ndarray:
    """Means of squares of side x side pixels, every `step` pixels along y and x."""
    total = np.pad(image.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    means: np.ndarray = sums[::step, ::step] / side**2
    return means


def _soft(image: np.ndarray, side: int, modality: str | None) -> tuple[np.ndarray, np.ndarray]:
    """First pixels (B, 2) of blocks of soft tissue, and how far out each is: 0 the centre, 1 the rim of the body."""
    part = side // 4
    # Small slices have few flat places, so the search uses smaller steps.
    step = 2 * part if side == _SIDES[0][1] else part
    parts = np.lib.stride_tricks.sliding_window_view(block_means(image, part, part), (4, 4))
    parts = parts[:: step // part, :: step // part]
    corners = np.indices(parts.shape[:2]).reshape(2, -1).T * step
    parts = parts.reshape(-1, 16)
    level = parts.mean(axis=1)
    if modality == "CT":
        (low, high), least, most = _SOFT_HU, parts.min(axis=1), parts.max(axis=1)
        body = level >= low
        # A block that is partly lung or bone is not flat.
        soft = body & (level <= high) & (least >= low - _PART_HU) & (most <= high + _PART_HU)
    else:
        dark, bright = np.quantile(level, (0.02, 0.98))
        body = soft = level >= dark + (bright - dark) / 3
    if not soft.any():
        body = soft = np.ones(len(corners), bool)
    ends = np.quantile(corners[body], (0.05, 0.95), axis=0)
    reach = np.maximum((ends[1] - ends[0]) / 2, step)
    return corners[soft], np.hypot(*((corners[soft] - ends.mean(axis=0)) / reach).T)
