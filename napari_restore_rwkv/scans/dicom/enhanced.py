"""Enhanced multi-frame DICOM: what its functional groups say about a frame, under the names of single-frame files.

DICOM PS3.3 C.7.6.16: an attribute is in the group of the frame, or in the one shared by all frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from ..integrity import broken
from .errors import NoScanError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.sequence import Sequence

    Elements = dict[BaseTag, DataElement]

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
    ("PixelValueTransformationSequence", "RescaleType", "RescaleType"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("CTImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent", "ComplexImageComponent"),
    ("PETFrameTypeSequence", "FrameType", "ImageType"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameContentSequence", "FrameAcquisitionDateTime", "AcquisitionDateTime"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    ("FrameContentSequence", "StackID", "StackID"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
)
_DIFFUSION, _DIRECTIONS = Tag("MRDiffusionSequence"), Tag("DiffusionGradientDirectionSequence")
_ORIENTATION = Tag("DiffusionGradientOrientation")
# Attributes in each functional group and what they are called, as tags, which pydicom finds faster than keywords.
_NAMES_IN = {
    Tag(group): [(Tag(inside), Tag(name)) for other, inside, name in _NAMES if other == group] for group, _, _ in _NAMES
}
_INSTANCE_NUMBER = Tag("InstanceNumber")
CONCATENATION_TAGS = ("ConcatenationUID", "ConcatenationFrameOffsetNumber")
_MORE_THAN_FRAMES = 1 << 24


def tags_of_frames(path: Path, header: Dataset, frames: int) -> Iterator[Dataset]:
    """Yield the attributes of one frame after another, together with those of the whole file.

    Raises
    ------
    NoScanError
        The file has several frames and does not say where any of them is.
    ScanError
        It does not say so of all of them.
    """
    each, shared = header.get(_PER_FRAME), header.get(_SHARED)
    if not each:
        raise NoScanError(
            f"{path.name} contains several frames and does not say where each of them is; "
            "convert it to a series of single slices or to NIfTI first."
        )
    if frames > len(each):
        raise broken(path, f"it contains {frames} frames, but says only of {len(each)} where they are")
    common = {element.tag: element for element in header if element.keyword not in FUNCTIONAL_GROUPS}
    known: dict[tuple[BaseTag, bytes], Elements] = {}
    common |= _elements(shared[0], known) if shared else {}
    before = _frames_before(header)
    for frame in range(frames):
        # Frames come in the order of acquisition, or in any other; their order is the last resort to tell them apart.
        number = DataElement(_INSTANCE_NUMBER, "SV", before + frame + 1)
        yield Dataset({**common, **_elements(each[frame], known), _INSTANCE_NUMBER: number})


def _frames_before(header: Dataset) -> int:
    """Return a number of frames in earlier files of the series: known in a concatenation, large enough in others."""
    if header.get("ConcatenationUID"):
        return int(header.get("ConcatenationFrameOffsetNumber") or 0)
    return int(header.get("InstanceNumber") or 0) * _MORE_THAN_FRAMES


def _elements(group: Dataset, known: dict[tuple[BaseTag, bytes], Elements]) -> Elements:
    """Return what the functional groups of a frame, or those that all share, say, under its name in a single frame.

    Most frames have most sequences in common, byte by byte: `known` has what was found in the earlier ones.
    """
    found: Elements = {}
    for sequence in _NAMES_IN:
        if sequence not in group:
            continue
        raw = group.get_item(sequence)
        if not isinstance(raw, RawDataElement) or raw.value is None:
            found |= _elements_of(sequence, group[sequence].value)
            continue
        key = sequence, raw.value
        if key not in known:
            known[key] = _elements_of(sequence, group[sequence].value)
        found |= known[key]
    return found


def _elements_of(sequence: BaseTag, items: Sequence) -> Elements:
    if not items:
        return {}
    found, [item, *_] = {}, items
    for inside, name in _NAMES_IN[sequence]:
        if inside in item:
            element = item[inside]
            found[name] = element if inside == name else DataElement(name, dictionary_VR(name), element.value)
    if sequence == _DIFFUSION and item.get(_DIRECTIONS) and item[_DIRECTIONS].value:
        [direction, *_] = item[_DIRECTIONS].value
        if _ORIENTATION in direction:
            found[_ORIENTATION] = direction[_ORIENTATION]
    return found
