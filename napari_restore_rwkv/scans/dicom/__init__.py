"""DICOM: files, series, images and their pixels, read and written."""
