"""TIFF stacks: pages, and what programs say of them."""
