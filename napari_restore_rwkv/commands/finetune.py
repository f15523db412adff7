"""The work behind ``restore-rwkv finetune CONFIG.toml``.

`parser.EXAMPLE` shows the file; `weights` and one scan are enough. File names in it are relative to it.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..errors import OutputError, ScanError
from ..progress import Run
from ..tasks import TASKS
from ..training.config import refuse_unknown, table_in
from ..training.options import Weights
from .new_weights import save_weights
from .terminal import note

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..training.material import Material
    from ..training.options import FineTuneOptions, FineTuneStep
    from ..training.outcome import FineTuned
    from .requests import Answer, FineTuneRequest

_TOP = {"weights", "output", "folder", "scans", "folders", "options"}
_OF_SCAN = {"degraded", "target", "labels", "modality", "strength", "strength_like"}
_OF_FOLDERS = {"degraded", "target", "modality"}


def fine_tune_from_file(request: FineTuneRequest) -> Answer:
    """Fine-tune according to a TOML file; return values for ``--json``, text, and the exit code."""
    config, here = _read(request.config), request.config.parent
    weights = _weights(config, here)
    output = _path(config, "output", here)
    if output and output.exists():
        raise OutputError(f"{output.name} already exists, and weights are never overwritten; give another output.")

    # Imported this late because torch takes seconds, and errors in the file should be reported at once.
    from ..training.acceptance import table
    from ..training.bundle import new_bundle
    from ..training.fine_tune import fine_tune

    options = _options(config, request.device)
    material = _material(config, here, options)
    folder = _path(config, "folder", here)
    try:
        outcome = _exhaust(fine_tune(weights, material, options, folder=folder))
    except KeyboardInterrupt as stop:
        kept = "the same command continues from the last saved step" if folder else "nothing was kept"
        raise KeyboardInterrupt(kept) from stop
    bundle = save_weights(outcome.save, output or new_bundle(outcome.card.task)) if outcome.accepted else None
    values = {
        "accepted": outcome.accepted,
        "reason": outcome.verdict.reason,
        "bundle": None if bundle is None else str(bundle),
        "held_out": [row.as_dict() for row in outcome.rows],
        "card": outcome.card.as_dict(),
    }
    lines = [table(outcome.rows)] if outcome.rows else []
    return values, "\n".join([*lines, outcome.verdict.reason, *([f"Written to {bundle}"] if bundle else [])]), 0


def _exhaust(steps: Generator[FineTuneStep, Any, FineTuned]) -> FineTuned:
    shown: set[str] = set()
    with tqdm(unit="step", file=sys.stderr, disable=not sys.stderr.isatty()) as bar, closing(Run(steps)) as run:
        for step in run:
            for warning in step.warnings:
                if warning not in shown:
                    shown.add(warning)
                    note(warning)
            bar.total = step.total
            bar.set_description(_words_of(step), refresh=False)
            if step.score and step.start:
                bar.set_postfix_str(f"held out {step.score.psnr:.2f} dB, {step.start.psnr:.2f} before")
            bar.update(step.step - bar.n)
        return run.result


def _words_of(step: FineTuneStep) -> str:
    if step.scoring is None:
        return f"step {step.step} of {step.total}"
    whose = {Weights.OLD: "with the old weights", Weights.CURRENT: "so far", Weights.NEW: "with the new weights"}
    return f"held-out slice {step.scoring.done} of {step.scoring.total} {whose[step.scoring.weights]}"


def _read(path: Path) -> dict[str, Any]:
    config = table_in(path, "see restore-rwkv finetune --help")
    _only(config, _TOP, path.name)
    for scan in config.get("scans", []):
        _only(scan, _OF_SCAN, "[[scans]]")
    for pair in config.get("folders", []):
        _only(pair, _OF_FOLDERS, "[[folders]]")
    if "weights" not in config or not (config.get("scans") or config.get("folders")):
        raise ScanError(f"{path.name} must name weights, and scans in [[scans]] or [[folders]]; see --help.")
    return config


def _only(values: Any, known: set[str], where: str) -> None:
    if not isinstance(values, dict):
        raise ScanError(f"{where} must contain names with values; see restore-rwkv finetune --help.")
    refuse_unknown(values, known, where)


def _weights(config: dict[str, Any], here: Path) -> str | Path:
    name = str(config["weights"])
    return name if name in TASKS else here / name


def _path(config: dict[str, Any], name: str, here: Path) -> Path | None:
    return (here / str(config[name])).resolve() if name in config else None


def _options(config: dict[str, Any], device: str) -> FineTuneOptions:
    from ..training.options import FineTuneOptions

    given = config.get("options", {})
    _only(given, {field.name for field in fields(FineTuneOptions)} - {"crops"}, "[options]")
    try:
        return FineTuneOptions(**({"device": device} | given))
    except TypeError as error:
        raise ScanError(f"[options] has a value of the wrong type: {error}; see finetune --help.") from error


def _material(config: dict[str, Any], here: Path, options: FineTuneOptions) -> list[Material]:
    from ..scans.opening import open_scan
    from ..training.material import Material
    from ..training.noise import fit_strength

    def scan(values: dict[str, Any], name: str) -> Any:
        return open_scan(here / values[name], modality=values.get("modality")) if name in values else None

    material = []
    for values in [*config.get("scans", []), *_pairs(config, here)]:
        degraded, target = scan(values, "degraded"), scan(values, "target")
        labels = open_scan(here / values["labels"]).voxels if "labels" in values else None
        strength = values.get("strength")
        if "strength_like" in values and target is not None:
            task = options.task or (str(config["weights"]) if config["weights"] in TASKS else "")
            if not task:
                raise ScanError("strength_like needs a task; give it in [options].")
            like = open_scan(here / values["strength_like"], modality=values.get("modality"))
            strength = fit_strength(target, like, task, seed=options.seed, axis=options.axis).strength
        material.append(Material(degraded, target, labels, strength))
    return material


def _pairs(config: dict[str, Any], here: Path) -> list[dict[str, Any]]:
    """Turn folders into entries for single scans; two folders must contain the same names."""
    entries = []
    for pair in config.get("folders", []):
        sides = [side for side in ("degraded", "target") if side in pair]
        try:
            names = {side: sorted(file.name for file in (here / pair[side]).iterdir()) for side in sides}
        except OSError as error:
            raise ScanError(f"A folder in [[folders]] cannot be read: {error}; check its name.") from error
        if len(sides) == 2 and names["degraded"] != names["target"]:
            odd = sorted(set(names["degraded"]) ^ set(names["target"]))[0]
            raise ScanError(f'"{odd}" is in only one of the two folders; give both the same file names.')
        if not sides or not names[sides[0]]:
            raise ScanError("[[folders]] must name a degraded or a target folder with scans in it.")
        more = {"modality": pair["modality"]} if "modality" in pair else {}
        entries += [{side: str(Path(pair[side]) / name) for side in sides} | more for name in names[sides[0]]]
    return entries
