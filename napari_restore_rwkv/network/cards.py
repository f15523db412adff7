"""The values of a card, checked when read: cards are shared between people, and displayed and used as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..tasks import TASKS
from ..untrusted import is_number, is_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEPS_MEASURED, TURNS, FALLS_SHORT = "keeps_measured", "turns", "falls_short"
WRAPPED_BORDER = "wrapped_border"
OWN_ERROR, NOISE_KEPT, TRAINED_FOR = "own_error", "noise_kept", "trained_for"
# Of a network; the largest here has 48 channels and 8 blocks per level, and one with more was made to exhaust memory.
MOST_CHANNELS, MOST_BLOCKS = 512, 64
_MODALITIES = ("CT", "MR", "PET", None)
# Characters; the shipped cards have 20, 10, and some 200.
_LONGEST = {"title": 200, "created": 40, "intended_use": 4000, "limits": 4000}
_LONGEST_DETAIL = 100_000
# More than a curve of ten thousand steps with four figures each.
_MOST_DETAILS, _DEEPEST = 200_000, 20
# Far beyond every noise and error, and far from where computing with it fails; infinite ones and NaN are not below it.
_LARGEST_NUMBER = 1e9
# Pixels; a border only needs to show the ringing of an edge.
_WIDEST_BORDER = 64
# The details that are used: name -> type of the value.
_KINDS: dict[str, type] = {
    KEEPS_MEASURED: bool,
    FALLS_SHORT: str,
    "created": str,
    "mode": str,
    "verdict": dict,
    "base": dict,
}


def checked_values(stored: Any) -> dict[str, Any]:
    """Return the values of a card that this version knows; additions of later versions are left out.

    Raises
    ------
    ValueError
        A value has the wrong type, or is too long. The text says which, as the end of a sentence.
    """
    if not isinstance(stored, dict) or "title" not in stored:
        raise ValueError("it has no title")
    for name, longest in _LONGEST.items():
        _check_text(name, stored.get(name, ""), longest)
    if stored.get("task", "") not in ("", *TASKS):
        raise ValueError(f"it is for a task that this version does not know ({str(stored['task'])[:40]!r})")
    if stored.get("modality") not in _MODALITIES:
        raise ValueError(f"its modality is not CT, MR or PET ({str(stored['modality'])[:40]!r})")
    digest = stored.get("weights_sha256", "")
    if digest != "" and not is_sha256(digest):
        raise ValueError("its weights_sha256 is not a digest")
    _check_details(stored.get("details", {}))
    known = (*_LONGEST, "task", "modality", "weights_sha256", "details")
    return {name: stored[name] for name in known if name in stored}


def _check_text(name: str, text: Any, longest: int) -> None:
    if not isinstance(text, str):
        raise ValueError(f"its {name} is not text")
    if len(text) > longest:
        raise ValueError(f"its {name} has {len(text)} characters; at most {longest} are allowed")
    if not all(character.isprintable() or character in "\n\t" for character in text):
        raise ValueError(f"its {name} contains characters that cannot be displayed")


def _check_details(details: Any) -> None:
    if not isinstance(details, dict):
        raise ValueError("its details are not named values")
    for count, value in enumerate(_all_values(details, 1)):
        if count > _MOST_DETAILS:
            raise ValueError(f"its details hold more than {_MOST_DETAILS} values")
        if isinstance(value, str) and len(value) > _LONGEST_DETAIL:
            raise ValueError(f"its details contain a text of {len(value)} characters")
    for name, kind in _KINDS.items():
        if name in details and not isinstance(details[name], kind):
            raise ValueError(f"{name} in its details is not of type {kind.__name__}")
    for name, least, greatest, what in (
        (TURNS, 1, 4, "quarter turns"),
        (WRAPPED_BORDER, 0, _WIDEST_BORDER, "pixels of wrapped border"),
    ):
        if name in details and not (is_number(details[name]) and least <= details[name] <= greatest):
            raise ValueError(f"it asks for {str(details[name])[:20]} {what}; {least} to {greatest} are possible")
    for name, most in ((OWN_ERROR, math.inf), (NOISE_KEPT, 1.0)):
        if name in details and not (_is_finite(details[name]) and 0 <= details[name] <= most):
            raise ValueError(f"{name} in its details is not a number {'from 0 to 1' if most == 1 else 'of 0 or more'}")
    if TRAINED_FOR in details and not _are_ranges(details[TRAINED_FOR]):
        raise ValueError(f"{TRAINED_FOR} in its details does not hold two ranges, of noise and of mean_frequency")
    if not isinstance(details.get("verdict", {}).get("accepted", False), bool):
        raise ValueError("its verdict is neither true nor false")
    base = details.get("base", {})
    if "base" in details and base.get("weights_sha256", "") != "" and not is_sha256(base["weights_sha256"]):
        raise ValueError("the digest of its base is not a digest")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER


def _are_ranges(value: Any) -> bool:
    """Whether a value is {"noise": [least, most], "mean_frequency": [least, most]}."""
    ranges = [value.get(name) for name in ("noise", "mean_frequency")] if isinstance(value, dict) else [None]
    return all(
        isinstance(one, list) and len(one) == 2 and all(map(_is_finite, one)) and 0 <= one[0] <= one[1]
        for one in ranges
    )


def _all_values(values: Any, depth: int) -> Iterator[Any]:
    """Yield every nested value, including keys; ValueError if they are nested too deeply."""
    if depth > _DEEPEST:
        raise ValueError(f"its details are nested more than {_DEEPEST} levels deep")
    for value in [*values, *values.values()] if isinstance(values, dict) else values:
        yield value
        if isinstance(value, dict | list | tuple):
            yield from _all_values(value, depth + 1)
