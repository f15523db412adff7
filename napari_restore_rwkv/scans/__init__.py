"""Scans: voxels with their geometry, modality and unit, and the files that hold them."""
