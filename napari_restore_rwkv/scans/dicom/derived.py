"""One slice of a derived DICOM series: everything that the original says about patient and position, with new pixels.

What may not be true of the new pixels is replaced or left out (DICOM PS3.3 C.7.6.1.1.2 and C.12.4). Private attributes
are left out because it is not known which of them refer to the stored numbers; the factors that turn counts of Philips
scanners into SUV stay, since they refer to the rescaled values.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ...errors import ScanError
from ..integrity import broken
from .files import DAMAGED
from .suv import PHILIPS_TAGS

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .values import StoredAs

# They describe the original's stored numbers or their compression, or sign them.
_OF_OLD_PIXELS = (
    "DigitalSignaturesSequence",
    "EncapsulatedPixelDataValueTotalLength",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "HistogramSequence",
    "IconImageSequence",
    "LargestImagePixelValue",
    "LargestPixelValueInSeries",
    "MACParametersSequence",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "RealWorldValueMappingSequence",
    "SmallestImagePixelValue",
    "SmallestPixelValueInSeries",
)
_LONG_STRING, _SHORT_TEXT = 64, 1024
_RESTORED = " restored"
# JPEG, JPEG-LS, JPEG 2000, JPEG XL and two of high-throughput JPEG 2000, each in its lossless form.
_JPEG = "1.2.840.10008.1.2.4."
_LOSSLESS = {_JPEG + end for end in ("57", "70", "80", "90", "110", "201", "202")}
# A series of the same study, with a number far from those that a scanner assigns.
_NUMBERS_LATER = 1000
_OVERLAYS = range(0x6000, 0x6020, 2)


@dataclass(frozen=True, slots=True)
class Derivation:
    """What all slices of a derived series have in common.

    Attributes
    ----------
    description
        How they were made, for readers.
    software, version
        Of the program that made them.
    series_uid
        Of the new series.
    made
        Time of creation.
    """

    description: str
    software: str
    version: str
    series_uid: str
    made: datetime


def derived_slice(source: Path, values: np.ndarray, how: StoredAs, derivation: Derivation) -> Dataset:
    """Return a slice with other values, ready to be saved.

    Parameters
    ----------
    source
        File of the original slice.
    values
        Shape (Y, X) of the original, finite, in its unit.
    how
        How they are stored.

    Raises
    ------
    ScanError
        The original is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            tags = pydicom.dcmread(source, stop_before_pixels=True, force=True)
            _refuse_big_endian(source, tags)
            _fill_in_uids(source, tags)
            _remove_private(tags)
            _describe(tags, derivation)
            _keep_padding(tags, how)
            _refer_to_source(tags)
            _set_lossy(tags)
            _set_pixels(tags, values, how)
            _set_identity(tags, derivation)
    except DAMAGED as error:
        raise broken(source, "its attributes are damaged") from error
    return tags


def _refuse_big_endian(source: Path, tags: Dataset) -> None:
    """Raise ScanError for a byte order that was retired: overlays and the like, which are bytes, would be swapped."""
    if not tags.original_encoding[1]:
        raise ScanError(
            f"{source.name} is stored in big-endian order, from which no series is derived: export to .nii.gz or .mha "
            "instead."
        )


def _fill_in_uids(source: Path, tags: Dataset) -> None:
    """Take blank UIDs, as anonymisation leaves them, from the head of the file; ScanError if the class is not there."""
    for name in ("SOPClassUID", "SOPInstanceUID"):
        if not tags.get(name):
            setattr(tags, name, tags.file_meta.get(f"MediaStorage{name}", ""))
    if not tags.SOPClassUID:
        raise broken(source, "it does not say what kind of image it is (SOP class)")


def _remove_private(tags: Dataset) -> None:
    factors = [tags[key] for key in PHILIPS_TAGS if key in tags]
    tags.remove_private_tags()
    for factor in factors:
        tags.add(factor)


def _describe(tags: Dataset, derivation: Derivation) -> None:
    tags.ImageType = ["DERIVED", "SECONDARY", *list(tags.get("ImageType") or [])[2:]]
    before = str(tags.get("SeriesDescription") or "")
    tags.SeriesDescription = (before[: _LONG_STRING - len(_RESTORED)].rstrip() + _RESTORED).strip()
    tags.SeriesNumber = int(tags.get("SeriesNumber") or 0) + _NUMBERS_LATER
    earlier = str(tags.get("DerivationDescription") or "")
    text = derivation.description + (f" Before: {earlier}" if earlier else "")
    tags.DerivationDescription = text[:_SHORT_TEXT]
    tags.InstanceCreationDate = tags.ContentDate = derivation.made.strftime("%Y%m%d")
    tags.InstanceCreationTime = tags.ContentTime = derivation.made.strftime("%H%M%S")
    machine = Dataset()
    machine.PurposeOfReferenceCodeSequence = _code("109102", "Processing Equipment")
    machine.Manufacturer = machine.ManufacturerModelName = derivation.software
    machine.SoftwareVersions = derivation.version
    tags.ContributingEquipmentSequence = Sequence([*(tags.get("ContributingEquipmentSequence") or []), machine])


def _keep_padding(tags: Dataset, how: StoredAs) -> None:
    """Keep the value that stands for "outside the field of view" meaning that in the new stored numbers, too."""
    padding = tags.get("PixelPaddingValue")
    for name in _OF_OLD_PIXELS:
        if name in tags:
            delattr(tags, name)
    if padding is None:
        return
    value = int(padding) * float(tags.get("RescaleSlope") or 1) + float(tags.get("RescaleIntercept") or 0)
    if how.holds(value):
        tags.add_new("PixelPaddingValue", "SS" if how.signed else "US", int(how.stored(np.array(value))))


def _refer_to_source(tags: Dataset) -> None:
    if not tags.SOPInstanceUID:
        return
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = tags.SOPClassUID, tags.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = _code("121322", "Source image for image processing operation")
    tags.SourceImageSequence = Sequence([source])


def _set_lossy(tags: Dataset) -> None:
    """Keep the mark of an image that was once lossily compressed, whatever is done with it later."""
    syntax = tags.file_meta.get("TransferSyntaxUID") or ""
    if syntax.startswith(_JPEG) and syntax not in _LOSSLESS:
        tags.LossyImageCompression = "01"


def _set_pixels(tags: Dataset, values: np.ndarray, how: StoredAs) -> None:
    stored = how.stored(values)
    for group in _OVERLAYS:
        # Such an overlay is stored in bits of the original's pixels.
        if (group, 0x0010) in tags and (group, 0x3000) not in tags:
            for element in list(tags.group_dataset(group)):
                del tags[element.tag]
    tags.Rows, tags.Columns = stored.shape
    tags.SamplesPerPixel = 1
    tags.BitsAllocated = tags.BitsStored = 8 * stored.itemsize
    tags.HighBit = tags.BitsStored - 1
    tags.PixelRepresentation = int(how.signed)
    tags.RescaleSlope, tags.RescaleIntercept = how.slope, how.intercept
    if tags.get("Modality") not in ("CT", "PT") and not tags.get("RescaleType"):
        # Unspecified; those two state the meaning of their rescaled values elsewhere.
        tags.RescaleType = "US"
    tags.add_new("PixelData", "OW", stored.astype(stored.dtype.newbyteorder("<")).tobytes())


def _set_identity(tags: Dataset, derivation: Derivation) -> None:
    tags.SeriesInstanceUID = derivation.series_uid
    tags.SOPInstanceUID = generate_uid()
    tags.file_meta = FileMetaDataset()
    tags.file_meta.MediaStorageSOPClassUID = tags.SOPClassUID
    tags.file_meta.MediaStorageSOPInstanceUID = tags.SOPInstanceUID
    tags.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _code(value: str, meaning: str) -> Sequence:
    """Return a code from DICOM's own list (PS3.16) as a sequence of one."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return Sequence([code])
