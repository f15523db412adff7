"""What was requested on the command line, one frozen class per command; its attributes are named like the arguments.

The meaning of each argument is stated once, where it is added to the parser. `reading` is how scans are opened.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from ..scans.options import OpenOptions

    # Values for --json, text for the user, and the exit code.
    Answer = tuple[dict[str, Any], str, int]

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """``restore INPUT OUTPUT``."""

    input: Path
    output: Path
    reading: OpenOptions
    task: str | None
    checkpoint: Path | None
    classical: bool
    axis: str
    device: str
    threads: int | None
    strength: float | None
    precision: str
    batch: int | None
    tile: tuple[int, int | None] | None
    dtype: str
    any_modality: bool
    overwrite: bool
    resume: bool
    part: tuple[int, int] | None
    scheduler: str | None
    format: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRequest:
    """``verify OUTPUT`` and ``finalize OUTPUT``."""

    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """``export OUTPUT FILE``."""

    output: Path
    file: Path
    reading: OpenOptions
    overwrite: bool
    dicom_from: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """``evaluate RESTORED REFERENCE``."""

    restored: Path
    reference: Path
    reading: OpenOptions
    window: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """``report INPUT RESTORED``."""

    input: Path
    restored: Path
    reading: OpenOptions
    reference: Path | None
    output: list[Path] | None
    overwrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateRequest:
    """``simulate INPUT OUTPUT``."""

    input: Path
    output: Path
    reading: OpenOptions
    task: str
    seed: int
    strength: float | None
    overwrite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectRequest:
    """``inspect SCAN``."""

    input: Path
    reading: OpenOptions
    axis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualifyRequest:
    """``qualify``."""

    task: str | None
    checkpoint: Path | None
    classical: bool
    modality: str | None
    quick: bool
    report: Path | None
    overwrite: bool
    background: Path | None
    seed: int
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """``train CONFIG``."""

    config: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneRequest:
    """``finetune CONFIG``."""

    config: Path
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceRequest:
    """``reproduce paper``."""

    data: Path
    task: str
    checkpoint: Path | None
    folder: Path | None
    output: Path | None
    steps: int | None
    light: bool
    device: str


def command(kind: type[Any], module: str, function: str) -> Callable[[argparse.Namespace], Answer]:
    """Return what runs a command: a function of a module here, imported only then, so that --help is fast."""

    def run(arguments: argparse.Namespace) -> Answer:
        answer: Answer = getattr(import_module(f".{module}", __package__), function)(request_of(kind, arguments))
        return answer

    return run


def request_of(kind: type[Request], arguments: argparse.Namespace) -> Request:
    """Return the parsed arguments of a command as its request.

    Parameters
    ----------
    kind
        The class of the request.
    arguments
        The command line as parsed by argparse.
    """
    given = vars(arguments)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    values = {name: given[name] for name in names - {"reading"}}
    if "reading" in names:
        from ..scans.options import OpenOptions

        options = {field.name for field in fields(OpenOptions)} & set(given)
        values["reading"] = OpenOptions(**{name: given[name] for name in options})
    return kind(**values)
