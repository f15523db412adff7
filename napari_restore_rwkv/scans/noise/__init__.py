"""The noise of a scan, estimated from the scan alone."""
