"""Restorations written to a file slab by slab, resumable after any interruption: ledger, lock, parts, cluster."""
