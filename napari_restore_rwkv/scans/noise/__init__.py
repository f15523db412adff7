"""The noise of a scan, measured in the scan alone."""
