"""Enhanced multi-frame DICOM: what its functional groups say about a frame, under the names of single-frame files.

DICOM PS3.3 C.7.6.16: an attribute is in the group of the frame, or in the one shared by all frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import ScanError
from .files import changed_tags

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
FUNCTIONAL_GROUPS = (_SHARED, _PER_FRAME)
# Functional group, attribute in it, and its name in a single-frame file.
_NAMES = (
    ("PlanePositionSequence", "ImagePositionPatient", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("PixelMeasuresSequence", "SpacingBetweenSlices", "SpacingBetweenSlices"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("CTImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("PETFrameTypeSequence", "FrameType", "ImageType"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameContentSequence", "FrameAcquisitionDateTime", "AcquisitionDateTime"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    ("FrameContentSequence", "StackID", "StackID"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
)
_DIRECTIONS = "DiffusionGradientDirectionSequence"


def frame_tags(path: Path, header: Dataset, frame: int) -> Dataset:
    """Return the attributes of one frame, from 0, together with those of the whole file.

    Raises
    ------
    ScanError
        The file has several frames and does not say where they are.
    """
    each, shared = header.get(_PER_FRAME), header.get(_SHARED)
    if not each or frame >= len(each):
        raise ScanError(
            f"{path.name} contains several frames and does not say where each of them is; "
            "convert it to a series of single slices or to NIfTI first."
        )
    found: dict[str, Any] = {}
    groups = [*(list(shared)[:1] if shared else []), each[frame]]
    for group in groups:
        for sequence, inside, name in _NAMES:
            values = group.get(sequence)
            if values and inside in values[0]:
                found[name] = values[0][inside].value
        diffusion = group.get("MRDiffusionSequence")
        if diffusion and diffusion[0].get(_DIRECTIONS):
            [direction, *_] = diffusion[0][_DIRECTIONS].value
            found["DiffusionGradientOrientation"] = direction.get("DiffusionGradientOrientation")
    # Frames come in the order of acquisition, or in any other; their order is the last resort to tell them apart.
    found["InstanceNumber"] = frame + 1
    return changed_tags(header, found, FUNCTIONAL_GROUPS)
