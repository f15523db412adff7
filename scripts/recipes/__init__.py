"""How each task's shipped weights are made: its scans, its degradations, its schedule, and how it is measured."""
