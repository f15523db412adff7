"""Files that survive a crash, and folders that disappear with the process that made them."""
