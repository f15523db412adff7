"""NIfTI: headers, and where the voxels lie."""
