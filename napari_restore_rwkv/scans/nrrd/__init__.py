"""NRRD: headers, voxel files, and the space that the voxels are in."""
