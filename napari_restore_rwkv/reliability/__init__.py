"""Whether a restored slice can be trusted: what was removed, and what would be lost."""
