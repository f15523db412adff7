"""Networks that run out of memory, and images for them."""

import numpy as np
import torch
from torch import nn

from napari_restore_rwkv.network.model import RestoreRWKV


class Triple(nn.Module):
    """Returns three times its input; runs out of memory beyond `fits` slices."""

    def __init__(self, fits=1000, error=torch.OutOfMemoryError):
        super().__init__()
        self.fits, self.error, self.tried = fits, error, []

    def forward(self, x):
        self.tried.append(len(x))
        if len(x) > self.fits:
            raise self.error("CUDA out of memory.")
        return 3 * x


class Hungry(RestoreRWKV):
    """Runs out of memory beyond `fits` slices, or with any slice outside of strips; `fits` 0 always fails."""

    fits = 1000
    only_in_strips = False

    def stages(self, image, *, in_strips=False):
        for result in super().stages(image, in_strips=in_strips):
            yield result
            # Not at once: by then the maps of a first part are there.
            if len(image) > self.fits or (self.only_in_strips and not in_strips):
                raise torch.OutOfMemoryError("CUDA out of memory.")


def images(count, shape=(5, 7)):
    return [np.full(shape, i + 1, np.float32) + np.arange(shape[1], dtype=np.float32) / 8 for i in range(count)]


def hungry_network(**traits):
    network = Hungry(channels=4, blocks=(1, 1, 1, 1), refinement=1)
    nn.init.normal_(network.output.weight, std=0.05)
    network = network.fused()
    for name, value in traits.items():
        setattr(network, name, value)
    return network


def run_all(executor, given):
    """Run all images as `restore` does; return all results and all notes."""
    given, results, notes = list(given), [], []
    count = len(given)
    while len(results) < count:
        if given and executor.wants_more:
            some, given = given[: executor.batch], given[executor.batch :]
            notes += [note for note in executor.submit(some) if note]
        else:
            results.extend(executor.collect())
    return results, notes
