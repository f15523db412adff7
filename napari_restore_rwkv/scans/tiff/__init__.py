"""TIFF stacks: pages, and the descriptions that programs write."""
