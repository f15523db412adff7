"""Train the light network for one task; resuming gives the same bits, and it is meant to run beside other work.

    python scripts/train_weights.py pack   --task TASK --scans FOLDER   # what training reads, files under 60 MB
    python scripts/train_weights.py train  --task TASK                  # continues where the last run stopped
    python scripts/train_weights.py export --task TASK --scans FOLDER   # the best averaged weights, measured, with card
    python scripts/train_weights.py qualify --task TASK                 # the shipped weights on phantoms, into the card

FOLDER contains the training scans, as made by scripts/fetch_training_scans.py. Everything made along the way is in
training_state/TASK/: the packed data, curve.jsonl, state.pt (to continue from), best.pt (what gets shipped).
"""

import argparse
import hashlib
import json
import time
from contextlib import nullcontext
from datetime import date
from pathlib import Path

import numpy as np
import torch
import unet
from recipes.recipe import Recipe
from recipes.table import RECIPES

from napari_restore_rwkv.device import choose_device
from napari_restore_rwkv.image_quality.qualify import qualify
from napari_restore_rwkv.network.checkpoint import (
    FALLS_SHORT,
    WRAPPED_BORDER,
    for_inference,
    load_checkpoint,
    save_checkpoint,
)
from napari_restore_rwkv.network.model import RestoreRWKV
from napari_restore_rwkv.network.restorer import Card
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.memory import reused_buffers
from napari_restore_rwkv.tasks import TASKS
from napari_restore_rwkv.threads import let_idle_threads_sleep
from napari_restore_rwkv.training.train import Trainer, one_batch

# In the details of a card: what `restore-rwkv qualify` says about the weights.
QUALIFIED = "qualified"
ROOT = Path(__file__).parent.parent
STATES = ROOT / "training_state"
WEIGHTS = ROOT / "napari_restore_rwkv" / "network" / "weights"
SCORED_EVERY, SAVED_EVERY = 250, 125


def train(
    recipe: Recipe,
    folder: Path,
    minutes: float,
    device: torch.device,
    *,
    network: torch.nn.Module | None = None,
    data: Path | None = None,
) -> None:
    """Train until the schedule ends or the time is up, whichever comes first.

    The state goes to `folder`; the packed data are there as well, or in `data`. A network other than ours needs
    `fused`.
    """
    torch.manual_seed(recipe.options.seed)
    start = _start(recipe) if network is None else network
    data = data or folder
    trainer = Trainer(start.to(device), one_batch(recipe.draw(data), recipe.options.seed), recipe.options, recipe.loss)
    watch, state, curve = recipe.watch(data), folder / "state.pt", folder / "curve.jsonl"
    if state.exists():
        trainer.resume(state)
        print(f"continuing at step {trainer.step}", flush=True)
    # Lines that an interrupted run wrote after its last save are written again.
    rows = [row for row in _rows(curve) if row["step"] <= trainer.step]
    curve.write_text("".join(json.dumps(row) + "\n" for row in rows))
    best = max((row["score"] for row in rows if "score" in row), default=-np.inf)
    end, losses = time.monotonic() + 60 * minutes, []
    last_step = recipe.options.steps
    if trainer.step >= last_step:
        print(f"{recipe.stage} is finished", flush=True)
        return
    for step in trainer.run():
        losses.append(step.loss)
        last = time.monotonic() > end or step.step == last_step
        if step.step % SAVED_EVERY and not last:
            continue
        row = {"step": step.step, "loss": float(np.mean(losses))}
        if step.step % SCORED_EVERY == 0 or last:
            row |= watch(trainer.network.fused(trainer.average).cpu())
            if row["score"] > best:
                best = row["score"]
                trainer.save(folder / "best.pt")
        losses = []
        trainer.save(state)
        with curve.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        if last:
            break


def export(recipe: Recipe, folder: Path, scans: Path) -> None:
    """Ship the best averaged weights, with their scores on the validation subject."""
    state = torch.load(folder / "best.pt", weights_only=True, map_location="cpu")
    network = RestoreRWKV.light(recipe.context)
    network.load_state_dict(state["average"])
    for parameter in network.output.parameters():
        parameter.data *= recipe.damping
    inferring = for_inference(network, Card("", details=recipe.card_details))
    measured = {"what": recipe.what_is_measured, "rows": recipe.measure(folder, inferring)}
    if (peer := unet.trained(folder)) is not None:
        measured["rows_of_a_unet_of_equal_steps"] = recipe.measure(folder, peer)
    short = recipe.falls_short(measured["rows"])
    for row in measured["rows"]:
        print(row, flush=True)
    print(f"falls short: {short}" if short else "reaches what it must", flush=True)
    card = Card(
        title="light, experimental" if short or recipe.experimental else "light",
        task=recipe.task,
        modality=TASKS[recipe.task].modality,
        created=date.today().isoformat(),
        intended_use=recipe.intended_use,
        limits=recipe.limits,
        details={
            "training_scans": [_described(scans / name, source) for name, source in recipe.training_scans.items()],
            "validation_scans": [_described(scans / name, source) for name, source in recipe.validation_scans.items()],
            "recipe": {
                "start_from": recipe.start_from,
                **state["options"],
                "steps_done": state["step"],
                "damping": recipe.damping,
                **recipe.details,
            },
            "curve": _rows(folder / "curve.jsonl"),
            **recipe.card_details,
            "measured": measured,
            FALLS_SHORT: short,
        },
    )
    save_checkpoint(network, card, WEIGHTS / f"{recipe.task}.safetensors")
    qualify_shipped(recipe.task)


def qualify_shipped(task: str) -> None:
    """Judge the shipped weights of a task on phantoms, in the quick form, and write the table into their card."""
    found = finish(qualify(load_checkpoint(task), quick=True))
    print(found.table(), flush=True)
    path = WEIGHTS / f"{task}.json"
    card = json.loads(path.read_text())
    card["details"][QUALIFIED] = found.as_dict()
    path.write_text(json.dumps(card, indent=2) + "\n")


def _start(recipe: Recipe) -> RestoreRWKV:
    """A new network, or the weights that the recipe starts from."""
    network = RestoreRWKV.light(recipe.context)
    # Recipes draw whole fields of view, whose opposite sides do belong together.
    network.wrapped_border = recipe.card_details.get(WRAPPED_BORDER, 0)
    if recipe.start_from is None:
        return network
    if recipe.start_from in RECIPES and recipe.start_from not in TASKS:
        state = torch.load(STATES / recipe.start_from / "state.pt", weights_only=True, map_location="cpu")
        weights = state["average"]
    else:
        weights = load_checkpoint(recipe.start_from, fused=False).state_dict()
    # Weights of a network that sees a single slice have none for context, which then start at zero.
    network.load_state_dict(network.state_dict() | weights)
    return network


def _rows(curve: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.exists() else []


def _described(path: Path, source: str) -> dict[str, str]:
    """Name, origin and digest of a scan; that of a folder is of its files, concatenated in order of name."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return {"name": path.name, "source": source, "sha256": digest}


def main() -> None:
    """Run the step named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("pack", "train", "export", "qualify"))
    parser.add_argument("--task", choices=tuple(RECIPES), required=True, help="a task, or a stage that it starts from")
    parser.add_argument("--scans", type=Path, help="folder of the training scans (for pack and export)")
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="stop training after this time (default: the whole schedule)"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda, or auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    let_idle_threads_sleep()
    if options.step in ("pack", "export") and options.scans is None:
        parser.error(f"{options.step} needs --scans FOLDER")
    recipe, folder = RECIPES[options.task], STATES / options.task
    folder.mkdir(parents=True, exist_ok=True)
    if options.step == "qualify":
        qualify_shipped(recipe.task)
    elif options.step == "pack":
        recipe.pack(options.scans, folder)
    elif options.step == "train":
        device = choose_device(options.device)
        with reused_buffers() if device.type == "cpu" else nullcontext():
            train(recipe, folder, options.minutes, device)
    else:
        export(recipe, folder, options.scans)


if __name__ == "__main__":
    main()
