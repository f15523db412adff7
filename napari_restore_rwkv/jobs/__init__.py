"""Restorations that go to a file slab by slab, and continue after anything: ledger, lock, parts, cluster."""
