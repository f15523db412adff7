"""The dock widget "Restore": what is chosen, the work in the background, and the result beside its input."""
