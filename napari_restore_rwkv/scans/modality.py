"""The modality of a scan, and how it is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ScanError
from ..tasks import MODALITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    "CT": "CT",
    "MR": "MR",
    "MRI": "MR",
    "PT": "PET",
    "PET": "PET",
    "MET_MOD_CT": "CT",
    "MET_MOD_MR": "MR",
}
_KEYS = ("modality", "Modality", "DICOM_0008_0060", "0008|0060")
_UNIT_KEY = "unit"
# Of the text fields of a header, those that are read here; NIfTI has a description instead.
FIELDS = (*_KEYS, _UNIT_KEY)
# dcm2niix describes an MR scan by its echo time, such as "TE=2.9;Time=101500".
_ECHO_TIME = re.compile(r"\bTE=\d")
_WORD = re.compile(r"\b(CT|MRI|MR|PET|PT)\b")
_UNIT = re.compile(r"\bunit (\S+)")
# CT numbers: nothing is less dense than air; scanners pad with -1000 to about -3100.
_LOWEST_HU = -3100
_SOFT_TISSUE_HU = (-200, 200)
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Kind:
    """What the voxel values mean.

    Attributes
    ----------
    modality
        "CT", "MR", "PET" or None.
    unit
        "HU", "SUV", "Bq/ml" or "".
    reason
        How this is known, one short sentence without a full stop.
    """

    modality: str | None
    unit: str
    reason: str


def check_modality(modality: str | None) -> None:
    """Raise ScanError unless `modality` is None or one of the known ones."""
    if modality is not None and modality not in MODALITIES:
        raise ScanError(f'There is no modality "{modality}"; choose one of {", ".join(MODALITIES)}.')


def kind_of_dicom(modality: str) -> Kind:
    """Return what a DICOM Modality (0008,0060) means; the unit of PET is decided elsewhere."""
    ours = _NAMES.get(modality.upper())
    return Kind(ours, "HU" if ours == "CT" else "", f"the file says modality {modality or '(blank)'}")


def kind_of_volume(header: Mapping[str, str], voxels: np.ndarray) -> Kind:
    """Return what the values of a NIfTI, NRRD or MetaImage mean: by its header, else by the values.

    Parameters
    ----------
    header
        Text fields of the file header.
    voxels
        Real array of any shape.
    """
    description = header.get("descrip", "")
    words = [header.get(key, "").strip().upper() for key in _KEYS] + _WORD.findall(description)
    found = next((_NAMES[word] for word in words if word in _NAMES), None)
    if found is None and _ECHO_TIME.search(description):
        found = "MR"
    if found is not None:
        written = _UNIT.search(description)
        unit = header.get(_UNIT_KEY, "").strip() or (written.group(1) if written else "")
        return Kind(found, "HU" if found == "CT" else unit, f"the file says modality {found}")
    return _kind_by_values(voxels)


def given(modality: str, known: Kind) -> Kind:
    """Return the kind if the user has given the modality."""
    if modality == known.modality:
        return known
    return Kind(modality, "HU" if modality == "CT" else "", f"{modality} was given")


def _kind_by_values(voxels: np.ndarray) -> Kind:
    finite = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
    if finite.size == 0:
        return Kind(None, "", "the file does not say, and there are no finite values to tell by")
    lowest, highest = finite.min(), finite.max()
    reach = f"the values reach from {lowest:g} to {highest:g}"
    if _LOWEST_HU <= lowest <= -500 and _looks_like_hu(finite):
        return Kind("CT", "HU", f"{reach}, as in HU")
    return Kind(None, "", f"the file does not say, and {reach}, which does not tell")


def _looks_like_hu(values: np.ndarray) -> bool:
    """Whether the values are integers and both air (or lung) and soft tissue are present."""
    sample = values.ravel()[:: max(1, values.size // 100_000)]
    low, high = _SOFT_TISSUE_HU
    air = np.mean(sample <= -500)
    tissue = np.mean((sample >= low) & (sample <= high))
    return bool(np.all(sample == np.round(sample)) and min(air, tissue) >= _SMALLEST_SHARE)
