"""The images of one DICOM series as stacks of evenly spaced slices, one for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ScanError
from .frames import plain, split_frames
from .tilt import is_tilted, tilt_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .image import SeriesImage

# A missing slice leaves a gap at least twice as wide as the others.
_GAP_TOLERANCE = 0.05
# If positions are rounded, gaps may differ by more than that even though no slice can be missing.
_LARGEST_ROUNDING = 0.3
_SAME_POSITION_MM = 1e-3
_ALIKE = {"EchoTime": "echo time", "DiffusionBValue": "b-value", "ConvolutionKernel": "kernel", "KVP": "tube voltage"}
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Stacks:
    """A series sorted by position.

    Attributes
    ----------
    frames
        For every frame its slices, from the first along the normal to the last.
    names
        What distinguishes the frames, such as "b 500"; blank if there is only one.
    notes
        Sentences for the user about how they were read.
    """

    frames: tuple[tuple[SeriesImage, ...], ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def images(self) -> list[SeriesImage]:
        """The slices of all frames."""
        return [image for frame in self.frames for image in frame]


def stacks_of(path: Path, images: Sequence[SeriesImage], correct_tilt: bool = False) -> Stacks:
    """Sort the images of one series, all of the same size and direction, into stacks.

    Parameters
    ----------
    path
        Where they come from, for errors.
    correct_tilt
        Whether slices that are shifted relative to each other are accepted, to be shifted back.

    Raises
    ------
    ScanError
        A slice is missing, the slices are unevenly spaced or shifted sideways, or nothing indicates which of several
        images at one position belong together.
    """
    levels: list[list[int]] = []
    placed = sorted(((image.height_mm, image) for image in images), key=lambda pair: pair[0])
    ordered = [image for _, image in placed]
    for index, (height, _) in enumerate(placed):
        if levels and height - placed[levels[-1][0]][0] < _SAME_POSITION_MM:
            levels[-1].append(index)
        else:
            levels.append([index])
    if len({len(level) for level in levels}) > 1:
        raise ScanError(
            f"{path.name} has several images at some positions but not at all of them; "
            "remove the extra images, so that each slice is there once."
        )
    if len(levels[0]) == 1:
        frames = [("", [index for [index] in levels])]
    else:
        found = split_frames([image.tags for image in ordered], levels)
        if found is None:
            raise ScanError(
                f"{path.name} has {len(levels[0])} images at each position, and nothing in them indicates which belong "
                "together; put each stack in its own folder."
            )
        frames = found
    stacks = [tuple(ordered[index] for index in members) for _, members in frames]
    notes = {note for stack in stacks for note in _checked(path, stack, correct_tilt)}
    return Stacks(tuple(stacks), tuple(name for name, _ in frames), tuple(sorted(notes)))


def _checked(path: Path, stack: Sequence[SeriesImage], correct_tilt: bool) -> list[str]:
    notes = _check_gaps(path, stack)
    notes += _differences(stack)
    systems = {image.text("FrameOfReferenceUID") for image in stack}
    if len(systems) > 1:
        notes.append(
            f"Its slices state {len(systems)} different frames of reference; their positions are compared all the same."
        )
    if not is_tilted(stack):
        return notes
    if not correct_tilt:
        raise ScanError(
            f"{path.name}: the slices are shifted relative to each other {tilt_words(stack)}; correct the tilt with "
            "--correct-tilt (correct_tilt=True in Python), which interpolates between pixels; restore-rwkv export "
            "writes such a scan into a file for the viewer."
        )
    return [*notes, f"Its slices were shifted back {tilt_words(stack)}, by interpolation between pixels."]


def _differences(stack: Sequence[SeriesImage]) -> list[str]:
    """Return notes about attributes of which neighbouring slices should have the same value."""
    notes = []
    for attribute, what in _ALIKE.items():
        values = sorted({plain(image.text(attribute)) for image in stack})
        if len(values) > 1:
            shown = ", ".join(value or "none" for value in values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
            notes.append(f"Its slices differ in {what}: {shown}.")
    return notes


def _check_gaps(path: Path, stack: Sequence[SeriesImage]) -> list[str]:
    """Raise ScanError if slices are missing or unevenly spaced; return notes about rounded positions."""
    heights = np.array([image.height_mm for image in stack])
    gaps = np.diff(heights)
    if gaps.size == 0:
        return []
    usual = float(np.median(gaps))
    odd = np.flatnonzero(np.abs(gaps - usual) > _GAP_TOLERANCE * usual)
    if odd.size == 0:
        return []
    step = float(heights[-1] - heights[0]) / gaps.size
    off = float(np.abs(heights - heights[0] - step * np.arange(len(stack))).max())
    digit = max(_last_digit_mm(image) for image in stack)
    # Both ends of the stack and the slice itself may be off by half a digit along each axis.
    if off <= min(digit * float(np.abs(stack[0].normal).sum()), _LARGEST_ROUNDING * step):
        return [f"The positions of its slices are rounded to {digit:g} mm; their mean distance is {step:.4g} mm."]
    at = int(odd[np.argmax(gaps[odd])])
    between = f"between {stack[at].name} and {stack[at + 1].name}"
    missing = round(gaps[at] / usual) - 1
    if missing >= 1 and abs(gaps[at] / usual - missing - 1) < _GAP_TOLERANCE:
        lost = "a slice is" if missing == 1 else f"{missing} slices are"
        raise ScanError(
            f"{path.name}: {lost} missing {between} ({gaps[at]:.2f} mm apart, elsewhere {usual:.2f} mm); "
            "copy the whole series again."
        )
    raise ScanError(
        f"{path.name}: the slices are unevenly spaced, {gaps[at]:.2f} mm {between} and {usual:.2f} mm elsewhere; "
        "resample the series to even spacing first."
    )


def _last_digit_mm(image: SeriesImage) -> float:
    """Return the value of one step in the last written digit of an image's position."""
    decimals = []
    for value in image.tags.ImagePositionPatient:
        mantissa, _, exponent = str(getattr(value, "original_string", value)).strip().lower().partition("e")
        decimals.append(len(mantissa.partition(".")[2]) - int(exponent or 0))
    return float(10.0 ** -max(decimals))
