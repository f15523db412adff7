"""Volume files: read whole, streamed or staged, none trusted."""
