"""Damaged and hostile files by the thousand, each opened in a watched process; ``python -m tests.fuzz --help``."""
