"""How bad scans come to be: degradations with the physics of the scanner, every one from a seed."""
