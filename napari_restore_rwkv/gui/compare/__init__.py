"""The comparison workbench: what changed in the displayed slice, and whether to believe it."""
