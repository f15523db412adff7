"""PET activity to standardised uptake: ``SUVbw = activity [Bq/ml] * body weight [g] / dose at scan start [Bq]``.

The dose at the start of the scan is ``injected dose * 2 ** (-(start - injection) / half-life)`` (DICOM PS3.3 C.8.9).
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydicom.valuerep import DT

from .files import positive_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.dataset import Dataset

# Philips counts: the factors that convert them to SUV, or to Bq/ml.
_PHILIPS_SUV, _PHILIPS_ACTIVITY = 0x70531000, 0x70531009
# With the name of their owner, which has to stand beside them.
PHILIPS_TAGS = (0x70530010, _PHILIPS_SUV, _PHILIPS_ACTIVITY)
SUV_TAGS: tuple[str | int, ...] = (
    _PHILIPS_SUV,
    _PHILIPS_ACTIVITY,
    "AcquisitionDate",
    "AcquisitionTime",
    "CorrectedImage",
    "DecayCorrection",
    "PatientWeight",
    "RadiopharmaceuticalInformationSequence",
    "SeriesDate",
    "SeriesTime",
    "SUVType",
    "TimezoneOffsetFromUTC",
    "Units",
)
# Between injection and scan; a dynamic scan starts before the injection, one with a long-lived nuclide days later.
_EARLIEST_S, _LONGEST_S, _HALF_LIVES = -600.0, 24 * 3600.0, 5.0
# Minutes and seconds may be left out, which means 0 (DICOM PS3.5, 6.2).
_TO_THE_HOUR = re.compile(r"\d{10}")


def suv_factor(slices: Sequence[Dataset], series: Sequence[Dataset]) -> tuple[float | None, str, str]:
    """Return how to turn the values of a PET series into SUV.

    Parameters
    ----------
    slices
        The tags of every slice of the frame.
    series
        Those of all frames, of which the earliest may tell when the scan began.

    Returns
    -------
    factor
        What to multiply the values by; None if they stay as they are.
    unit
        The unit after that: "SUV", "Bq/ml" or "".
    reason
        One short sentence, without anything about the patient.
    """
    first = slices[0]
    units = str(first.get("Units") or "")
    if units == "GML" and str(first.get("SUVType") or "BW") == "BW":
        return None, "SUV", "its values are SUV already"
    if units == "CNTS":
        return _philips_factor(slices, series)
    if units != "BQML":
        return None, "", f"its values are in units {units or '(blank)'}, which cannot be turned into SUV"
    try:
        return _factor(first, series), "SUV", "its Bq/ml were turned into SUV by body weight and decay-corrected dose"
    except _NoFactorError as error:
        return None, "Bq/ml", f"its values stay in Bq/ml, because {error}"


def _philips_factor(slices: Sequence[Dataset], series: Sequence[Dataset]) -> tuple[float | None, str, str]:
    """Return the factor for counts; Philips scanners write it into private attributes."""
    suv, activity = ({positive_private(tags, key) for tags in slices} for key in (_PHILIPS_SUV, _PHILIPS_ACTIVITY))
    if len(suv) == 1 and (factor := suv.pop()):
        return factor, "SUV", "its counts were turned into SUV by the factor of the scanner"
    if len(activity) == 1 and (factor := activity.pop()):
        try:
            whole = factor * _factor(slices[0], series)
        except _NoFactorError:
            return factor, "Bq/ml", "its counts were turned into Bq/ml by the factor of the scanner"
        return whole, "SUV", "its counts were turned into SUV by the scanner's factor, body weight and dose"
    return None, "", "its values are in units CNTS, without a factor that turns them into SUV"


class _NoFactorError(Exception):
    """Why activity cannot be turned into SUV, without anything about the patient."""


def _factor(first: Dataset, series: Sequence[Dataset]) -> float:
    try:
        drug = first.RadiopharmaceuticalInformationSequence[0]
        weight_g = 1000.0 * float(first.PatientWeight)
        dose = float(drug.RadionuclideTotalDose)
        correction = str(first.DecayCorrection)
        if correction == "START":
            uptake_s = (_scan_start(series) - _injection(first, drug)).total_seconds()
            half_life_s = float(drug.RadionuclideHalfLife)
            if half_life_s <= 0 or not _EARLIEST_S <= uptake_s < max(_LONGEST_S, _HALF_LIVES * half_life_s):
                raise _NoFactorError("its half-life, or the time between injection and scan, makes no sense")
            dose *= 2.0 ** (-uptake_s / half_life_s)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _NoFactorError("weight, dose, half-life or times are missing") from error
    if correction not in {"START", "ADMIN"}:
        raise _NoFactorError("they are not corrected for decay to the start of the scan or to the injection")
    if not (0 < weight_g < math.inf and 0 < dose < math.inf):
        raise _NoFactorError("weight or dose is not above 0")
    return weight_g / dose


def _scan_start(series: Sequence[Dataset]) -> datetime:
    """Return the start of the scan: the series time, or the first acquisition if the series was re-created later."""
    first = series[0]
    created = _moment(first.SeriesDate, first.SeriesTime)
    acquired = [_moment(tags.AcquisitionDate, tags.AcquisitionTime) for tags in series if "AcquisitionTime" in tags]
    return min([created, *acquired])


def _injection(first: Dataset, drug: Dataset) -> datetime:
    if not drug.get("RadiopharmaceuticalStartDateTime"):
        return _moment(first.SeriesDate, drug.RadiopharmaceuticalStartTime)
    text = str(drug.RadiopharmaceuticalStartDateTime)
    if not _TO_THE_HOUR.match(text):
        raise ValueError("the injection has no time of day")
    when = DT(text)
    # Times of the series are local ones, in the time zone of the file if it states one.
    zone = first.get("TimezoneOffsetFromUTC")
    if when.tzinfo is not None and zone:
        when = when.astimezone(datetime.strptime(str(zone), "%z").tzinfo)
    return when.replace(tzinfo=None)


def _moment(date: str, time: str) -> datetime:
    digits, _, fraction = str(time).partition(".")
    whole = datetime.strptime(f"{date}{digits.ljust(6, '0')}", "%Y%m%d%H%M%S")
    return whole + timedelta(seconds=float(f"0.{fraction or 0}"))
