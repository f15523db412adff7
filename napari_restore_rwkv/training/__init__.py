"""Pairs of degraded and clean slices, and the loop that learns from them."""
