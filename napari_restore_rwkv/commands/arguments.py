"""How command-line arguments become values, and the messages for those that are not valid."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any


class Window(argparse.Action):
    """Two finite numbers, the low one first."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        """Keep them, or end with a usage error."""
        low, high = values
        if not (math.isfinite(low) and math.isfinite(high)):
            parser.error(f"--window {low:g} {high:g} does not have finite ends: give two numbers, such as -160 240")
        if not low < high:
            parser.error(f"--window {low:g} {high:g} is empty: give the low end first")
        namespace.window = (low, high)


def path(text: str) -> Path:
    """Name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is blank: give the name of a file or folder")
    return Path(text)


def positive(text: str) -> int:
    """Integer of 1 or more."""
    return _whole_number(text, 1)


def index(text: str) -> int:
    """Integer of 0 or more."""
    return _whole_number(text, 0)


def part(text: str) -> tuple[int, int]:
    """I/N, for the I-th of N parts."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f'"{text}" is not a part: give I/N, such as 1/8 for the first of eight')
    return int(number), int(count)


def tile(text: str) -> tuple[int, int | None]:
    """SIZE or SIZE,OVERLAP in pixels; an overlap of None means the default."""
    size, comma, overlap = text.partition(",")
    if not size.isdecimal() or (comma and not overlap.isdecimal()):
        raise argparse.ArgumentTypeError(f'"{text}" is not a tile: give SIZE or SIZE,OVERLAP in pixels, such as 512,64')
    return int(size), int(overlap) if comma else None


def strength(text: str) -> float:
    """Number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a strength: give a number from 0 to 1, such as 0.8')
    return value


def dicom_switches(parser: argparse.ArgumentParser) -> None:
    """Add the choice among DICOM series, and the correction of a tilted one."""
    parser.add_argument("--series", metavar="N", help="which of several DICOM series: its number or the end of its UID")
    parser.add_argument(
        "--correct-tilt",
        action="store_true",
        help="shift back DICOM slices from a tilted gantry, which interpolates between pixels",
    )


def allow_outside_files(parser: argparse.ArgumentParser) -> None:
    """Add the permission for files in other folders."""
    parser.add_argument(
        "--allow-outside-files",
        action="store_true",
        help="read files outside its own folder that a scan refers to; only for scans that you trust",
    )


def _whole_number(text: str, least: int) -> int:
    words = f'"{text}" is not a whole number of {least} or more'
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(words) from error
    if number < least:
        raise argparse.ArgumentTypeError(words)
    return number
