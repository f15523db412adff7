"""Pairs of degraded and clean slices, and the loop that trains on them."""
