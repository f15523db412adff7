"""Files and folders that survive a crash, or vanish with the process that made them."""
