"""The sizes of the pieces of slices that networks are trained on."""

# Crop sides and the batch of each: about the same work a step. The last is a whole slice, the size that will be used.
CROPS = ((64, 8), (96, 4), (128, 2), (208, 1), (320, 1), (0, 1))
