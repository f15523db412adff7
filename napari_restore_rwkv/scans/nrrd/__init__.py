"""NRRD: headers, the files of the voxels, and the space they lie in."""
