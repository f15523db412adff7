"""Scan files made by SimpleITK or by hand, for the tests of our readers."""

import struct

import numpy as np
import SimpleITK as sitk

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"]


def rotation(degrees=(20, -35, 50)):
    a, b, c = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def image_of(voxels, direction=None):
    image = sitk.GetImageFromArray(voxels)
    if direction is not None:
        image.SetSpacing([0.75, 0.5, 3.0])
        image.SetOrigin([-120.5, 33.25, 871.0])
        image.SetDirection(direction.ravel().tolist())
    return image


def save(path, voxels, compress=False, **geometry):
    sitk.WriteImage(image_of(voxels, **geometry), str(path), useCompression=compress)
    return path


def nifti(voxels, sizes=None, datatype=4, sform=None, description=b""):
    """Return the bytes of a NIfTI-1 file, written by hand."""
    sizes = sizes or voxels.shape[::-1]
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<hh", head, 70, datatype, 8 * voxels.itemsize)
    struct.pack_into("<8f", head, 76, 1, *[1.0] * 7)
    struct.pack_into("<ff", head, 108, 352.0, 1.0)
    head[148 : 148 + len(description)] = description
    if sform is not None:
        struct.pack_into("<h", head, 254, 1)
        struct.pack_into("<12f", head, 280, *np.ravel(sform))
    head[344:348] = b"n+1\0"
    return bytes(head) + voxels.tobytes()
