"""The crops of slices that networks are trained on."""

import numpy as np

# Crop sides and the batch of each: about the same work per step. The last is a whole slice, the size used in practice.
CROPS = ((64, 8), (96, 4), (128, 2), (208, 1), (320, 1), (0, 1))


def turned(image: np.ndarray, shape: tuple[int, int], flips: tuple[slice, slice], quarter_turns: int = 0) -> np.ndarray:
    """A crop (Y, X), mirrored at its far edges up to a shape, flipped, and turned; contiguous.

    A slice smaller than the crop is mirrored so that all crops of a batch have the same shape.
    """
    pads = [(0, wanted - there) for wanted, there in zip(shape, image.shape, strict=True)]
    return np.ascontiguousarray(np.rot90(np.pad(image, pads, mode="symmetric")[flips], quarter_turns))


def random_flips(rng: np.random.Generator) -> tuple[slice, slice]:
    """Indices that keep rows and columns as they are, or reverse them."""
    down, across = rng.choice((-1, 1), size=2)
    return slice(None, None, int(down)), slice(None, None, int(across))
