"""The dock widget "Fine-tune": training scans, annotations, the training, and whether it improved the weights."""
