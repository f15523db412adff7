"""The training loop, resumable to the bit: everything random follows from the seed and the number of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..threads import let_idle_threads_sleep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..network.model import RestoreRWKV

# Degraded and clean images, (B, 1, Y, X) each, and whatever else the loss wants to know of them.
Batch = tuple[Tensor, ...]
Loss = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes
    ----------
    steps
        Length of the whole schedule.
    learning_rate, final_learning_rate
        AdamW's rate after the warm-up, and where its cosine ends.
    warm_up_steps
        Steps over which the rate rises linearly from zero.
    average_decay
        Decay a step of the exponential moving average of the weights, which is what gets shipped.
    gradient_norm
        Longer gradients are scaled down to this norm.
    seed
        Seed of every random choice.
    """

    steps: int
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warm_up_steps: int = 100
    average_decay: float = 0.998
    gradient_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One finished step: its number from 1, its loss in network units, and its learning rate."""

    step: int
    loss: float
    learning_rate: float


class Trainer:
    """A network, its optimiser and its averaged weights, saved and resumed together.

    Parameters
    ----------
    network
        The network to train, changed in place.
    draw
        Called with a random generator; returns a `Batch`, in network units.
    options
        See `TrainingOptions`.
    loss
        Called with restored, clean and degraded images and the rest of the batch; None takes the mean absolute error.
    """

    def __init__(
        self,
        network: RestoreRWKV,
        draw: Callable[[np.random.Generator], Batch],
        options: TrainingOptions,
        loss: Loss | None = None,
    ) -> None:
        let_idle_threads_sleep()
        self.network, self.draw, self.options = network, draw, options
        self.loss = loss or _absolute_error
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.step = 0

    def run(self) -> Iterator[TrainingStep]:
        """Train from the current step to the end of the schedule, yielding after each step."""
        while self.step < self.options.steps:
            yield self._advance()

    def save(self, path: Path) -> None:
        """Write the state, atomically: an interrupted save leaves the last one whole."""
        partial = path.with_suffix(".partial")
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "options": asdict(self.options),
        }
        torch.save(state, partial)
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Continue from a saved state.

        Raises
        ------
        ValueError
            If the state was saved with other options: the schedule would not be the one that was asked for.
        """
        state = torch.load(path, weights_only=True)
        if state["options"] != asdict(self.options):
            raise ValueError(
                f"{path.name} was saved with {state['options']}, not {asdict(self.options)}; use those or start over."
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step = state["average"], state["step"]

    def averaged_network(self) -> RestoreRWKV:
        """Return a fused copy of the network with the averaged weights."""
        current = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        averaged = self.network.fused()
        self.network.load_state_dict(current)
        return averaged

    def _advance(self) -> TrainingStep:
        options = self.options
        rate = _learning_rate(options, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        device = next(self.network.parameters()).device
        batch = self.draw(np.random.default_rng((options.seed, self.step)))
        degraded, clean, *rest = (images.to(device) for images in batch)
        loss = self.loss(self.network(degraded), clean, degraded, *rest)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.gradient_norm)
        self.optimiser.step()
        # A young average forgets faster, or it would remember the start for too long.
        decay = min(options.average_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return TrainingStep(self.step, loss.item(), rate)


def _absolute_error(restored: Tensor, clean: Tensor, *_: Tensor) -> Tensor:
    return functional.l1_loss(restored, clean)


def _learning_rate(options: TrainingOptions, step: int) -> float:
    if step < options.warm_up_steps:
        return options.learning_rate * (step + 1) / options.warm_up_steps
    progress = (step - options.warm_up_steps) / max(1, options.steps - options.warm_up_steps)
    fall = options.learning_rate - options.final_learning_rate
    return options.final_learning_rate + fall * (1 + math.cos(math.pi * progress)) / 2
