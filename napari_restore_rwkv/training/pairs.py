"""Packed training pairs: clean slices, and the noise that makes them bad, in one file.

The noise is kept apart from the slice, so that one pair serves every strength: degraded = clean + strength * noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Noise is stored in tenths of a unit, finer than the rounding of the scans themselves.
_NOISE_STEPS_PER_UNIT = 10

# Crop sides and the batch of each: about the same work a step. The last is a whole slice, the size that will be used.
CROPS = ((64, 8), (96, 4), (128, 2), (208, 1), (320, 1), (0, 1))
_CROP_ODDS = (0.26, 0.26, 0.22, 0.16, 0.07, 0.03)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Clean slices with their noise at unit strength, both in the scan's unit, each slice of shape (Y, X)."""

    clean: Sequence[np.ndarray]
    noise: Sequence[np.ndarray]

    def save(self, path: Path) -> None:
        """Pack the pairs into one safetensors file."""
        arrays = {}
        for i, (clean, noise) in enumerate(zip(self.clean, self.noise, strict=True)):
            arrays[f"clean.{i:04d}"] = np.rint(clean).astype(np.int16)
            arrays[f"noise.{i:04d}"] = np.rint(noise * _NOISE_STEPS_PER_UNIT).clip(-32768, 32767).astype(np.int16)
        save_file(arrays, path)

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """Read a file that `save` wrote."""
        arrays: Mapping[str, np.ndarray] = load_file(path)
        numbers = sorted(name.split(".")[1] for name in arrays if name.startswith("clean."))
        return cls(
            [arrays[f"clean.{n}"].astype(np.float32) for n in numbers],
            [arrays[f"noise.{n}"].astype(np.float32) / _NOISE_STEPS_PER_UNIT for n in numbers],
        )

    def batch(self, rng: np.random.Generator, strengths: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Draw a batch of crops of one size, each flipped at random, with a random strength of noise.

        Returns
        -------
        tuple
            Degraded and clean crops in the scan's unit, shape (B, 1, Y, X) each.
        """
        side, count = CROPS[rng.choice(len(CROPS), p=_CROP_ODDS)]
        degraded, clean = [], []
        for _ in range(count):
            good, noise = self._crop(rng, side)
            # Uniform in the logarithm: half and double the dose are equally likely.
            strength = np.exp(rng.uniform(*np.log(strengths)))
            degraded.append(good + np.float32(strength) * noise)
            clean.append(good)
        return torch.from_numpy(np.stack(degraded)[:, None]), torch.from_numpy(np.stack(clean)[:, None])

    def _crop(self, rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
        i = int(rng.integers(len(self.clean)))
        height, width = self.clean[i].shape
        rows, columns = (side, side) if side else (height, width)
        # A slice smaller than the crop is mirrored, so that all crops of a batch have one shape.
        pads = [(0, max(0, rows - height)), (0, max(0, columns - width))]
        y, x = rng.integers(max(0, height - rows) + 1), rng.integers(max(0, width - columns) + 1)
        flips = tuple(slice(None, None, step) for step in rng.choice((-1, 1), size=2))

        def cut(image: np.ndarray) -> np.ndarray:
            piece = np.pad(image[y : y + rows, x : x + columns], pads, mode="symmetric")
            return np.ascontiguousarray(piece[flips])

        return cut(self.clean[i]), cut(self.noise[i])
