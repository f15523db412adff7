"""Whether fine-tuned weights are better than the old ones: scores of held-out slices before and after, and a verdict.

Slices with a reference are scored like any restoration (`metrics.score_slice`), in the usual window for CT. Noisy scans
have no reference. Their error is estimated from the two neighbouring slices t1 and t2, whose noise is independent of
each other and of the restored slice r:

    mse = mean((r - t1) (r - t2)) + mean((smoothed(t1) - smoothed(t2))^2) / 4 + mean((t1 - t2)^2) / 80

The first term has no noise floor, but is too low by the squared change of anatomy between neighbours, and by noise that
slices share; the others, which are the same before and after, compensate for this. It is an estimate: if the slices of
the scan share noise, gains in dB come out too large (1.6 instead of 0.4 in benchmarks/fine_tune.json). SSIM is then
measured against the mean of the neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..metrics import score_slice, ssim
from ..restoration.data_consistency import in_units
from ..scans.noise.smoothing import box_mean
from .png import grey_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from .crop_sampler import HeldOut

LEAST_GAIN_DB = 0.1
CT_WINDOW_HU = (-160.0, 240.0)
# An error of a 40th of the noise variance is indistinguishable from none: (t1 - t2)^2 has twice that variance.
_NOISE_SHARE = 80
# Width of the bar between the images of the picture, and the largest side of one of them.
_BAR, _LARGEST_SIDE = 4, 512


@dataclass(frozen=True, slots=True)
class Score:
    """PSNR in dB and SSIM of one held-out slice, or the means over several; nan where they are undefined."""

    psnr: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Row:
    """A held-out slice before and after fine-tuning."""

    scan: int
    slice: int
    before: Score
    after: Score

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; undefined figures are None."""
        figures = {
            f"{name}_{when}": value if math.isfinite(value) else None
            for when, score in (("before", self.before), ("after", self.after))
            for name, value in (("psnr", score.psnr), ("ssim", score.ssim))
        }
        return {"scan": self.scan, "slice": self.slice, **figures}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the new weights are accepted, why or why not, and the mean figures."""

    accepted: bool
    reason: str
    before: Score
    after: Score


def window_of(modality: str | None) -> tuple[float, float] | None:
    """The window in which a modality is usually scored, in its unit; None for none."""
    return CT_WINDOW_HU if modality == "CT" else None


def restored(network: nn.Module, image: np.ndarray, rule: Any) -> np.ndarray:
    """Restore one slice (Y, X) in the unit of the scan, as inference does, with a network from `for_inference`.

    Unlike `restore_slice`, it passes on NaN and infinite values: diverged weights are scored as well.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        values = network(torch.from_numpy(rule.to_network(image))[None, None].to(device))
    return in_units(values[0, 0].float().cpu().numpy(), image, rule, network)


def score_one(image: np.ndarray, held: HeldOut, window: tuple[float, float] | None) -> Score:
    """Score one restored slice; where errors do not count, it is treated as perfect."""
    shown = np.where(held.counted, image, held.target)
    target = np.nan_to_num(held.target.astype(np.float64))
    shown = np.nan_to_num(shown.astype(np.float64))
    if held.neighbours is None:
        score = score_slice(shown, target, window)
        return Score(score.psnr, score.ssim)
    one, other = (np.asarray(image, np.float64) for image in held.neighbours)
    inside = held.counted
    if window is not None:
        # Chosen by smoothed values: selecting noisy values inside the window would bias their noise.
        middle = box_mean(target)
        inside = inside & (middle > window[0]) & (middle < window[1])
    spread = float(np.ptp(target if window is None else target.clip(*window)))
    if not inside.any() or spread == 0:
        return Score(math.nan, math.nan)
    one, other = np.nan_to_num(one), np.nan_to_num(other)
    beside = (box_mean(one) - box_mean(other)) ** 2 / 4 + (one - other) ** 2 / _NOISE_SHARE
    error = float(((shown - one) * (shown - other) + beside)[inside].mean())
    # An estimated error can still be 0 or negative; no more than 60 dB is claimed then.
    error = max(error, 1e-6 * spread**2)
    return Score(10 * math.log10(spread**2 / error), ssim(shown, target, window=window))


def mean_score(scores: Sequence[Score]) -> Score:
    """Means over the slices where a figure is finite; nan if there are none."""
    return Score(*(finite_mean([getattr(score, name) for score in scores]) for name in ("psnr", "ssim")))


def judge(before: Sequence[Score], after: Sequence[Score], *, estimated: bool = False) -> Verdict:
    """Accept new weights only if the held-out slices gain more than 0.1 dB with SSIM no worse.

    Scores estimated from neighbouring slices can only decide against new weights, never for them: where anatomy changes
    from slice to slice, the mean of the neighbours is blurred, and the weights that come closest to it blur as well.
    """
    old, new = mean_score(before), mean_score(after)
    gain = new.psnr - old.psnr
    if not math.isfinite(gain):
        reason = "the held-out slices are constant or identical to their reference, so nothing can be measured"
        return Verdict(False, kept(reason), old, new)
    if gain <= LEAST_GAIN_DB:
        change = f"gained {gain:.2f} dB" if gain > 0 else f"lost {-gain:.2f} dB" if gain < 0 else "gained nothing"
        return Verdict(
            False, kept(f"the held-out slices {change}, and more than {LEAST_GAIN_DB} dB is needed"), old, new
        )
    if new.ssim < old.ssim:
        reason = f"the held-out slices gained {gain:.2f} dB, but SSIM fell from {old.ssim:.4f} to {new.ssim:.4f}"
        return Verdict(False, kept(reason), old, new)
    if estimated:
        reason = (
            f"the held-out slices gained {gain:.2f} dB, but that is an estimate from neighbouring slices, which can "
            "favour weights that blur; compare the pictures, and save the new ones if they keep fine detail"
        )
        return Verdict(False, kept(reason), old, new)
    return Verdict(True, f"Accepted: the held-out slices gained {gain:.2f} dB with SSIM no worse.", old, new)


def kept(reason: str) -> str:
    """The sentence that says why the old weights stay."""
    return f"Kept the old weights: {reason}."


def table(rows: Sequence[Row]) -> str:
    """The figures as lines of text, the mean last."""
    heads = ("scan", "slice", "PSNR before", "after dB", "SSIM before", "after")
    before, after = mean_score([row.before for row in rows]), mean_score([row.after for row in rows])
    lines = ["  ".join(f"{head:>11}" for head in heads)]
    scores = [((str(row.scan), str(row.slice)), row.before, row.after) for row in rows]
    for names, old, new in [*scores, (("", "mean"), before, after)]:
        figures = f"{old.psnr:>11.2f}  {new.psnr:>11.2f}  {old.ssim:>11.4f}  {new.ssim:>11.4f}"
        lines.append("  ".join(f"{name:>11}" for name in names) + "  " + figures)
    return "\n".join(lines)


def picture(images: Sequence[np.ndarray], window: tuple[float, float] | None) -> bytes:
    """Images (Y, X) side by side as a PNG, all with the grey scale of the last one."""
    step = -(-max(images[-1].shape) // _LARGEST_SIDE)
    shown = [np.asarray(image, np.float64)[::step, ::step] for image in images]
    finite = shown[-1][np.isfinite(shown[-1])]
    low, high = window or (np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0))
    bar = np.full((shown[0].shape[0], _BAR), high)
    columns = [piece for image in shown for piece in (image, bar)][:-1]
    return grey_png(np.concatenate(columns, axis=1), float(low), float(high))


def blend(old: Mapping[str, Tensor], new: Mapping[str, Tensor], amount: float) -> dict[str, Tensor]:
    """Weights between the old (0) and the new (1); the ends are exact.

    Raises
    ------
    ValueError
        If the amount is out of range.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"The amount for blending old and new weights must be from 0 to 1; got {amount:g}.")
    return {name: torch.lerp(old[name], new[name], amount) for name in new}


def finite_mean(values: Sequence[float]) -> float:
    """The mean of the values that are finite; nan if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan
