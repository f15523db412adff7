"""The work behind ``restore-rwkv train CONFIG.toml``, in one process or in several that torchrun started."""

from __future__ import annotations

import math
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..errors import OutputError
from ..progress import Run
from ..training.config import read_config
from .new_weights import save_weights

if TYPE_CHECKING:
    from ..training.config import TrainConfig
    from ..training.trained import Trained
    from .requests import Answer, TrainRequest


def train_from_file(request: TrainRequest) -> Answer:
    """Train according to a TOML file; return values for ``--json``, text, and the exit code."""
    config = read_config(request.config)
    trained = run(config)
    if not writes_results():
        return {"rank": _rank()}, f"process {_rank()} of the training has done its part", 0
    output = config.output
    bundle = save_weights(trained.save, output) if output else None
    score = trained.score
    values = {
        "bundle": None if bundle is None else str(bundle),
        "best_step": trained.card.details["best_step"],
        "validation": {name: _number(getattr(score, name)) for name in ("psnr", "ssim", "rmse")},
        "card": trained.card.as_dict(),
    }
    words = f"Step {values['best_step']}: PSNR {score.psnr:.2f} dB, SSIM {score.ssim:.4f}, RMSE {score.rmse:.4g}"
    return values, "\n".join([words, *([f"Written to {bundle}"] if bundle else [])]), 0


def run(config: TrainConfig) -> Trained:
    """Train to the end, showing the progress."""
    if config.output and config.output.exists():
        raise OutputError(
            f"{config.output.name} already exists, and weights are never overwritten; give another output."
        )

    # Imported this late because torch takes seconds, and errors in the file should be reported at once.
    from ..training.from_scratch import train

    hidden = not (writes_results() and sys.stderr.isatty())
    with tqdm(unit="step", file=sys.stderr, disable=hidden) as bar, closing(Run(train(config))) as steps:
        try:
            for step in steps:
                bar.total = step.total
                scoring = f"scoring {step.scoring} validation slices"
                words = f"step {step.step} of {step.total}" if step.scoring is None else scoring
                bar.set_description(words, refresh=False)
                if step.score:
                    bar.set_postfix_str(f"{step.score.psnr:.2f} dB, best at step {step.best_step}")
                bar.update(step.step - bar.n)
        except KeyboardInterrupt as stop:
            kept = "the same command continues from the last saved step" if config.folder else "nothing was kept"
            raise KeyboardInterrupt(kept) from stop
    return steps.result


def writes_results() -> bool:
    """Whether this process writes the results: the first of those that torchrun started."""
    return _rank() == 0


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
