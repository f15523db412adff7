"""``restore-rwkv simulate``: degrades a scan, to try out restoration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..scans.files import read_as, write_scan
from .outputs import check_output
from .terminal import watch

if TYPE_CHECKING:
    from .requests import Answer, SimulateRequest


def simulate_file(request: SimulateRequest) -> Answer:
    """Degrade INPUT and write it to OUTPUT, with a JSON record of the degradation beside it."""
    check_output(request.output, request.input, request.overwrite)
    scan = read_as(request.input, request.reading)

    from ..simulate.whole_scan import simulate

    worse = watch(simulate(scan, request.task, seed=request.seed, strength=request.strength))
    record = worse.metadata["simulation"]
    write_scan(worse, request.output, overwrite=request.overwrite, record={"simulation": record})
    return (
        {"output": str(request.output), "slices": worse.shape[0], "simulation": record},
        f"{request.output}: {worse.shape[0]} slices simulated ({record['task']}, strength {record['strength']:g}: "
        f"{record['meaning']}; seed {record['seed']})",
        0,
    )
