"""Whether to believe a restored slice: what was removed, and what would be lost."""
