"""Running a scan through a network, slice by slice."""
