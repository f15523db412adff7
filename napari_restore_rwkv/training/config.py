"""The configuration of training from scratch: the settings of `train`, and the TOML file that holds them.

Every wrong name and value is reported in one sentence, before anything is loaded. File names are relative to the TOML
file; docs/training.md has an example of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from ..errors import ScanError
from ..network.cards import MOST_BLOCKS, MOST_CHANNELS
from ..tasks import MODALITIES, TASKS
from ..untrusted import CONFIG_BYTES, read_regular, toml_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PROTOCOLS = ("ours", "paper")
SIZES = ("light", "full")
LOSSES = ("absolute", "root")
# Least and most; what is beyond any computer's memory would only be noticed late.
_ALLOWED = {
    "steps": (1, 1_000_000_000),
    "batch": (1, 4096),
    "accumulate": (1, 65_536),
    "crop": (8, 4096),
    "score_every": (1, 1_000_000_000),
    "score_slices": (1, 1_000_000),
    "save_every": (1, 1_000_000_000),
    "warm_up_steps": (0, 1_000_000_000),
    "readers": (0, 256),
    "seed": (0, 2**63 - 1),
    "weight_decay": (0, 1000),
}
_LONGEST_NAME = 1024
_KINDS = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text"),
    "Path": ((str,), "the name of a file or folder"),
    "tuple": ((list,), "a list"),
}


@dataclass(frozen=True, slots=True)
class Network:
    """The network to train.

    Attributes
    ----------
    weights
        Weights to start from, as `load_checkpoint` takes them; None for a new network, which starts as the identity.
    size
        Of a new network: "light" or "full".
    channels, blocks, refinement
        Of a new network of another size, see `RestoreRWKV`; all three or none.
    """

    weights: str | None = None
    size: str = "light"
    channels: int | None = None
    blocks: tuple[int, ...] | None = None
    refinement: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Scans to train on, or to validate on.

    Attributes
    ----------
    degraded, target
        A scan each, or a folder of scans with the same names. Both: pairs. Only `target`: references, whose
        degradation is simulated.
    task
        One of `TASKS`; what is simulated, and the modality of the scans if their files do not say.
    modality
        Of the scans, if neither files nor task say.
    strength
        Least and largest strength of the simulated degradation, see `simulate.whole_scan.STRENGTHS`; None for the
        usual one.
    share
        How often this source is sampled, relative to the others; None for its number of scans.
    """

    degraded: Path | None = None
    target: Path | None = None
    task: str = ""
    modality: str | None = None
    strength: tuple[float, ...] | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, how fast, and on what crops.

    Attributes
    ----------
    steps, learning_rate, final_learning_rate, warm_up_steps, optimiser, weight_decay, gradient_norm, average_decay,
    precision, seed
        See `TrainingOptions`.
    batch
        Crops at once in each process.
    accumulate
        Batches whose gradients are summed for one step.
    crop
        Side of a crop in pixels.
    flips, rotations
        Whether crops are flipped along both axes, and turned by quarter turns, at random.
    loss
        "absolute" for the mean absolute error, "root" for the mean over crops of the root mean square error.
    score_every, score_slices
        Steps between two scores, and the validation slices of each.
    save_every
        Steps between two saves of the state.
    readers
        Threads that read crops ahead; 0 reads them when they are needed.
    """

    steps: int = 20_000
    batch: int = 8
    accumulate: int = 1
    crop: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warm_up_steps: int = 100
    optimiser: str = "adamw"
    weight_decay: float = 1e-4
    gradient_norm: float = 1.0
    average_decay: float = 0.998
    precision: str = "float32"
    flips: bool = True
    rotations: bool = False
    loss: str = "absolute"
    seed: int = 0
    score_every: int = 500
    score_slices: int = 32
    save_every: int = 100
    readers: int = 2


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The whole configuration of `train`.

    Attributes
    ----------
    data
        What is trained on.
    validation
        What the best weights are chosen on; if empty, every tenth scan of each source in `data` is held out, at least
        one.
    network, schedule
        See there.
    protocol
        "ours", or "paper": the fixed intensity windows and the metrics of arXiv 2407.11087.
    folder
        Keeps state and curves, so that the same training can continue after an interruption; None keeps nothing.
    output
        The bundle to write; None for none.
    device
        As for `choose_device`.
    tensorboard
        Whether the curves are also written for TensorBoard.
    title
        Of the weights; None makes one.
    """

    data: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    network: Network = field(default_factory=Network)
    schedule: Schedule = field(default_factory=Schedule)
    protocol: str = "ours"
    folder: Path | None = None
    output: Path | None = None
    device: str = "auto"
    tensorboard: bool = False
    title: str | None = None

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, PROTOCOLS)
        _check_network(self.network)
        _check_schedule(self.schedule)
        _check_sources(self)
        if self.tensorboard and self.folder is None:
            raise ScanError("tensorboard needs a folder for its curves; give folder as well.")


def read_config(path: Path) -> TrainConfig:
    """Read the TOML file of a training.

    Raises
    ------
    ScanError
        It cannot be read, or has unknown or invalid content: the message says what, and what is allowed.
    """
    table, here = table_in(path, "docs/training.md has examples"), path.parent
    parts: dict[str, Any] = {
        "data": _sources(table.pop("data", []), "data", here),
        "validation": _sources(table.pop("validation", []), "validation", here),
        "network": _values(Network, table.pop("network", {}), "[network]", here),
        "schedule": _values(Schedule, table.pop("schedule", {}), "[schedule]", here),
    }
    parts["network"] = Network(**_relative_weights(parts["network"], here))
    parts["schedule"] = Schedule(**parts["schedule"])
    values = _values(TrainConfig, table, path.name, here, without=tuple(parts))
    # As they are shown to the user.
    written = {name: values[name].resolve() for name in ("folder", "output") if name in values}
    return TrainConfig(**parts, **(values | written))


def table_in(path: Path, hint: str) -> dict[str, Any]:
    """Read a TOML file; ScanError, with a hint, if that is not possible."""
    try:
        return toml_table(read_regular(path, CONFIG_BYTES))
    except OSError as error:
        raise ScanError(f"{path} cannot be read: {error.strerror or error}; give a TOML file.") from error
    except ValueError as error:
        raise ScanError(f"{path.name} is not a TOML file: {error}; {hint}.") from error


def refuse_unknown(table: dict[str, Any], known: Iterable[str], where: str) -> None:
    """Raise ScanError for a name that a table may not have."""
    if unknown := sorted(table.keys() - known):
        raise ScanError(f'{where} has the unknown name "{unknown[0]}"; use {", ".join(sorted(known))}.')


def _sources(tables: Any, name: str, here: Path) -> tuple[Source, ...]:
    if not isinstance(tables, list):
        raise ScanError(f"{name} must be a list of tables: write [[{name}]] above each of them.")
    return tuple(Source(**_values(Source, table, f"[[{name}]]", here)) for table in tables)


def _values(kind: type, table: Any, where: str, here: Path, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a table, each of the type given by the dataclass."""
    if not isinstance(table, dict):
        raise ScanError(f"{where} must contain names with values, not {table!r}.")
    known = {one.name: str(one.type) for one in fields(kind) if one.name not in without}
    refuse_unknown(table, known.keys(), where)
    return {name: _value(value, known[name], f"{name} in {where}", here) for name, value in table.items()}


def _value(value: Any, kind: str, what: str, here: Path) -> Any:
    name = kind.split(" | ")[0].split("[")[0]
    types, words = _KINDS[name]
    # In Python, true is also an integer.
    if not isinstance(value, types) or (isinstance(value, bool) and name != "bool"):
        raise ScanError(f"{what} must be {words}; got {value!r}.")
    if name == "tuple":
        inner = kind[len("tuple[") :].split(",")[0]
        entries = cast("Iterable[Any]", value)
        return tuple(_value(one, inner, f"every entry of {what}", here) for one in entries)
    if name != "Path":
        return value
    if len(str(value)) > _LONGEST_NAME:
        raise ScanError(f"{what} has {len(str(value))} characters; at most {_LONGEST_NAME} are possible.")
    return here / str(value)


def _relative_weights(network: dict[str, Any], here: Path) -> dict[str, Any]:
    weights = network.get("weights")
    if weights is None or weights.split("@")[0] in TASKS:
        return network
    return network | {"weights": str(here / weights)}


def _one_of(name: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ScanError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")


def _check_sources(config: TrainConfig) -> None:
    if not config.data:
        raise ScanError("There is nothing to train on: name a target folder, and a degraded one, in [[data]].")
    for source in (*config.data, *config.validation):
        if source.target is None:
            raise ScanError("Every source needs a target, the scans without degradation; add its folder.")
        if source.task:
            _one_of("task", source.task, tuple(TASKS))
        if source.modality:
            _one_of("modality", source.modality, MODALITIES)
        if source.degraded is None and source.task in ("", "all-in-one"):
            raise ScanError(
                f"{source.target.name} has only references, whose degradation is simulated: give a task "
                f"({', '.join(task for task in TASKS if task != 'all-in-one')}), or name a degraded folder."
            )
        if source.strength is not None and (
            len(source.strength) != 2 or not 0 < source.strength[0] <= source.strength[1] < math.inf
        ):
            raise ScanError(
                f"strength must be the smallest and the largest, such as [0.5, 2.0]; got {list(source.strength)}."
            )
        if source.share is not None and not 0 < source.share < math.inf:
            raise ScanError(f"share must be above 0; got {source.share:g}.")


def _check_network(network: Network) -> None:
    _one_of("size", network.size, SIZES)
    own = (network.channels, network.blocks, network.refinement)
    if any(value is not None for value in own):
        if network.weights is not None:
            raise ScanError(
                "The size of the network follows from its weights; leave out channels, blocks and refinement."
            )
        if any(value is None for value in own) or len(network.blocks or ()) != 4 or min(*network.blocks, *own[::2]) < 1:  # type: ignore[misc]
            raise ScanError("A network of custom size needs channels, four blocks, and refinement, each 1 or more.")
        if network.channels > MOST_CHANNELS or max(*network.blocks, network.refinement) > MOST_BLOCKS:  # type: ignore[misc,operator]
            raise ScanError(
                f"A network of custom size has at most {MOST_CHANNELS} channels and {MOST_BLOCKS} blocks per level."
            )


def _check_schedule(schedule: Schedule) -> None:
    # The choices of the trainer, which needs torch.
    _one_of("optimiser", schedule.optimiser, ("adam", "adamw"))
    _one_of("precision", schedule.precision, ("float32", "bfloat16"))
    _one_of("loss", schedule.loss, LOSSES)
    for name, (least, most) in _ALLOWED.items():
        if not least <= getattr(schedule, name) <= most:
            raise ScanError(f"{name} must be from {least:,} to {most:,}; got {getattr(schedule, name):,}.")
    if not 0 <= schedule.final_learning_rate <= schedule.learning_rate <= 0.1 or schedule.learning_rate == 0:
        raise ScanError(
            "The learning rate must be above 0 and up to 0.1, and the final one no higher; got "
            f"{schedule.learning_rate:g} and {schedule.final_learning_rate:g}."
        )
    if not 0 <= schedule.average_decay < 1:
        raise ScanError(f"average_decay must be at least 0 and below 1; got {schedule.average_decay:g}.")
    if not schedule.gradient_norm > 0:
        raise ScanError(f"gradient_norm must be above 0, or inf; got {schedule.gradient_norm:g}.")
