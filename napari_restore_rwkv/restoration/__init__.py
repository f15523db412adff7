"""A scan through a network, slice by slice."""
