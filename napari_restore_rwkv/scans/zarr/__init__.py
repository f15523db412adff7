"""OME-Zarr: metadata, checked chunks, reading and writing."""
