"""DICOM series made by hand, for the tests of what reads and derives them."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROW = np.array([0.8, 0.6, 0.0])
COLUMN = np.array([-0.48, 0.64, 0.6])
NORMAL = np.cross(ROW, COLUMN)
CORNER = np.array([-100.0, 50.0, 300.0])
GAP = 2.5


def write_slice(path, pixels, corner, more=(), **changes):
    """Write one CT slice of uint16 pixels (Y, X); `changes` replace tags, None leaves one out, `more` are elements."""
    tags = Dataset()
    tags.SOPClassUID = CTImageStorage
    tags.SOPInstanceUID = generate_uid()
    tags.SeriesInstanceUID = "1.2.3.4"
    tags.SeriesDescription = "Thorax"
    tags.Modality = "CT"
    tags.PatientName = "Doe^Jane"
    tags.PatientID = "4711"
    tags.Rows, tags.Columns = pixels.shape[:2]
    tags.SamplesPerPixel = 1
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.BitsAllocated = tags.BitsStored = 16
    tags.HighBit = 15
    tags.PixelRepresentation = 0
    tags.PixelSpacing = [0.7, 0.9]
    tags.ImageOrientationPatient = [*ROW, *COLUMN]
    tags.ImagePositionPatient = [round(float(value), 6) for value in corner]
    tags.RescaleSlope = 1
    tags.RescaleIntercept = -1024
    tags.PixelData = pixels.astype("<u2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(tags, name)
        else:
            setattr(tags, name, value)
    for element in more:
        tags.add(element)
    tags.file_meta = FileMetaDataset()
    tags.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    tags.file_meta.MediaStorageSOPClassUID = CTImageStorage
    tags.file_meta.MediaStorageSOPInstanceUID = tags.SOPInstanceUID
    tags.save_as(path, enforce_file_format=True)


def write_series(folder, pixels, names="edcba", **changes):
    """Write slices along the normal; the names run against the positions."""
    folder.mkdir(exist_ok=True)
    for index, (name, slice_) in enumerate(zip(names, pixels, strict=True)):
        write_slice(folder / f"{name}.dcm", slice_, CORNER + index * GAP * NORMAL, **changes)
    return folder


def pet_tags(**changes):
    drug = Dataset()
    drug.RadionuclideTotalDose = 400e6
    drug.RadionuclideHalfLife = 6586.2
    drug.RadiopharmaceuticalStartTime = "100000.00"
    tags = {
        "Modality": "PT",
        "Units": "BQML",
        "DecayCorrection": "START",
        "PatientWeight": 80.0,
        "SeriesDate": "20240102",
        "SeriesTime": "110000",
        "AcquisitionDate": "20240102",
        "AcquisitionTime": "110500.5",
        "RescaleIntercept": 0,
        "RescaleSlope": 2.5,
        "RadiopharmaceuticalInformationSequence": [drug],
    }
    return {**tags, **changes}
