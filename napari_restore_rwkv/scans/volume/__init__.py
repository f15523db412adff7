"""Volume files: read whole, streamed or staged; none is trusted."""
