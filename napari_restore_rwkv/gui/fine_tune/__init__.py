"""The dock widget "Fine-tune": what to learn from, annotations, the training, and whether it was worth it."""
