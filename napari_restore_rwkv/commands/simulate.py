"""``restore-rwkv simulate``: a scan made worse, to try restoration out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..scans.files import read_scan, write_scan
from .outputs import check_output
from .terminal import watch

if TYPE_CHECKING:
    import argparse


def simulate_file(arguments: argparse.Namespace) -> tuple[dict[str, Any], str, int]:
    """Make INPUT worse and write it to OUTPUT, with a JSON record of how beside it."""
    check_output(arguments.output, arguments.input, arguments.overwrite)
    scan = read_scan(
        arguments.input,
        modality=arguments.modality,
        time_index=arguments.time_index,
        series=arguments.series,
        correct_tilt=arguments.correct_tilt,
        allow_outside_files=arguments.allow_outside_files,
    )

    from ..simulate.whole_scan import simulate

    worse = watch(simulate(scan, arguments.task, seed=arguments.seed, strength=arguments.strength))
    record = worse.metadata["simulation"]
    write_scan(worse, arguments.output, overwrite=arguments.overwrite)
    beside = arguments.output.with_name(arguments.output.name + ".json")
    beside.write_text(json.dumps({"simulation": record}, indent=2) + "\n", encoding="utf-8")
    return (
        {"output": str(arguments.output), "slices": worse.shape[0], "simulation": record},
        f"{arguments.output}: {worse.shape[0]} slices simulated ({record['task']}, strength {record['strength']:g}: "
        f"{record['meaning']}; seed {record['seed']})",
        0,
    )
