"""The dock widget "Restore": the form, the background job, and the result beside its input."""
