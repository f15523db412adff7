"""Units of length by the names that files give them."""

from __future__ import annotations

# Millimetres in each, by the names of OME-Zarr.
MILLIMETERS = {
    "meter": 1e3,
    "decimeter": 1e2,
    "centimeter": 10.0,
    "millimeter": 1.0,
    "micrometer": 1e-3,
    "nanometer": 1e-6,
    "picometer": 1e-9,
    "angstrom": 1e-7,
    "inch": 25.4,
}
_OTHER_NAMES = {
    "m": "meter",
    "dm": "decimeter",
    "cm": "centimeter",
    "mm": "millimeter",
    "um": "micrometer",
    "\N{MICRO SIGN}m": "micrometer",
    "micron": "micrometer",
    "nm": "nanometer",
    "pm": "picometer",
    "in": "inch",
}


def millimeters(name: str) -> float | None:
    """Return how many mm a unit is, by its name or symbol in singular or plural; None if unknown."""
    word = name.strip().lower().replace("metre", "meter")
    for singular in (word, word.removesuffix("s"), word.removesuffix("es")):
        found = MILLIMETERS.get(_OTHER_NAMES.get(singular, singular))
        if found is not None:
            return found
    return None
