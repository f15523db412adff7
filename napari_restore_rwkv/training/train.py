"""The training loop of recipes, of `train` and of `fine_tune`, in one process or several.

Everything random depends only on the seed and the number of the step, so resumed training gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import DeviceError
from ..threads import let_idle_threads_sleep
from .processes import Processes
from .state_file import write_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..network.model import RestoreRWKV

# Degraded and clean images, (B, 1, Y, X) each, and whatever else the loss needs.
Batch = tuple[Tensor, ...]
# The batches of a step, by its number from 0; their gradients are averaged.
Batches = Callable[[int], Sequence[Batch]]
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
# Precision of the passes; weights, gradients and optimiser stay float32.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Loss = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes
    ----------
    steps
        Length of the whole schedule.
    learning_rate, final_learning_rate
        The optimiser's rate after the warm-up, and where its cosine ends.
    warm_up_steps
        Steps over which the rate rises linearly from zero.
    average_decay
        Decay per step of the exponential moving average of the weights, which is what is kept; 0 for no average.
    gradient_norm
        Longer gradients are scaled down to this norm; infinity leaves them unchanged.
    seed
        Seed of every random choice.
    optimiser
        One of `OPTIMISERS`.
    weight_decay
        Of the optimiser.
    precision
        One of `PRECISIONS`.
    """

    steps: int
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warm_up_steps: int = 100
    average_decay: float = 0.998
    gradient_norm: float = 1.0
    seed: int = 0
    optimiser: str = "adamw"
    weight_decay: float = 1e-4
    precision: str = "float32"


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
    batches
        See `Batches`; in network units. `one_batch` makes them from a function that draws with a random generator.
    options
        See `TrainingOptions`.
    loss
        Called with restored, clean and degraded images and the rest of the batch; None takes the mean absolute error.
    processes
        Those that train together, each with its own batches; None for this one alone.
    """

    def __init__(
        self,
        network: RestoreRWKV,
        batches: Batches,
        options: TrainingOptions,
        loss: Loss | None = None,
        processes: Processes | None = None,
    ) -> None:
        let_idle_threads_sleep()
        self.network, self.batches, self.options = network, batches, options
        self.loss = loss or _absolute_error
        self.processes = processes or Processes()
        self._forward = self.processes.together(network)
        self.optimiser = OPTIMISERS[options.optimiser](
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.step = 0

    def run(self) -> Iterator[TrainingStep]:
        """Train from the current step to the end of the schedule, yielding after each step."""
        while self.step < self.options.steps:
            yield self._advance()

    def save(self, path: Path) -> None:
        """Write the state, atomically: an interrupted save leaves the last one whole."""
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "options": asdict(self.options),
        }
        write_state(path, state)

    def resume(self, path: Path) -> None:
        """Continue from a saved state.

        Raises
        ------
        ValueError
            If the state was saved with other options: the schedule would not be the requested one.
        """
        state = torch.load(path, weights_only=True, map_location="cpu")
        # States of earlier versions have fewer options; the missing ones had their present defaults.
        saved = {option.name: option.default for option in fields(TrainingOptions)} | state["options"]
        if saved != asdict(self.options):
            raise ValueError(
                f"{path.name} was saved with {saved}, not {asdict(self.options)}; use those or start over."
            )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        device = next(self.network.parameters()).device
        self.average = {name: value.to(device) for name, value in state["average"].items()}
        self.step = state["step"]

    def averaged(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights in the memory of the processor."""
        return {name: value.cpu().clone() for name, value in self.average.items()}

    def _advance(self) -> TrainingStep:
        options = self.options
        rate = _learning_rate(options, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss = self._gradients()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.gradient_norm)
        self.optimiser.step()
        # The average decays faster at first, or it would remember the start for too long.
        decay = min(options.average_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return TrainingStep(self.step, loss, rate)

    def _gradients(self) -> float:
        """Sum the gradients of a step's batches over all processes; return the mean loss."""
        device = next(self.network.parameters()).device
        batches = self.batches(self.step)
        short = PRECISIONS[self.options.precision]
        losses: list[Tensor] = []
        for number, batch in enumerate(batches, 1):
            degraded, clean, *rest = (images.to(device) for images in batch)
            with self.processes.exchanging(self._forward, last=number == len(batches)):
                with torch.autocast(device.type, short, enabled=short != torch.float32):
                    restored = self._forward(degraded)
                loss = self.loss(restored.float(), clean, degraded, *rest) / len(batches)
                losses.append(loss.detach().double())
                if number == len(batches):
                    # Exchanged during the backward pass, so that no process waits for the others twice in a step.
                    mean = self.processes.begin_mean(torch.stack(losses).sum())
                loss.backward()
        return mean()


def guarded(trainer: Trainer, device: torch.device, remedy: str) -> Iterator[TrainingStep]:
    """Train as `Trainer.run` does; DeviceError with this remedy if the memory of the device does not suffice."""
    try:
        yield from trainer.run()
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"{device} ran out of memory while training; {remedy}.") from error


def one_batch(draw: Callable[[np.random.Generator], Batch], seed: int) -> Batches:
    """One batch per step, drawn with a random generator determined by the seed and the number of the step."""
    return lambda step: [draw(np.random.default_rng((seed, step)))]


def root_error(restored: Tensor, clean: Tensor, *_: Tensor) -> Tensor:
    """Mean over the batch of each image's root mean square error; images have shape (B, 1, Y, X).

    Its gradient is as long for an image that is almost right as for one that is far off: closer to PSNR than the
    absolute error, and unlike the logarithm of the error not dominated by almost empty crops.
    """
    return mean_root((restored - clean).square().mean(dim=(1, 2, 3)))


def mean_root(squares: Tensor) -> Tensor:
    """Mean of roots; the small constant keeps the gradient finite for an image that is already right."""
    return (squares + 1e-6).sqrt().mean()


def _absolute_error(restored: Tensor, clean: Tensor, *_: Tensor) -> Tensor:
    return functional.l1_loss(restored, clean)


def _learning_rate(options: TrainingOptions, step: int) -> float:
    if step < options.warm_up_steps:
        return options.learning_rate * (step + 1) / options.warm_up_steps
    progress = (step - options.warm_up_steps) / max(1, options.steps - options.warm_up_steps)
    fall = options.learning_rate - options.final_learning_rate
    return options.final_learning_rate + fall * (1 + math.cos(math.pi * progress)) / 2
