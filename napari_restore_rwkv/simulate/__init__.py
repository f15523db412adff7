"""Degradations that follow the physics of the scanner, each determined by a seed."""
