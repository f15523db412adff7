"""Restorations that go to a file unit by unit, and continue after anything: ledger, lock, parts, cluster."""
