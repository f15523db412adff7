"""What breaks first when one coordinator distributes 10,000 slabs to hundreds of workers: a discrete-event simulation.

    python scripts/simulate_scheduler.py [--json FILE]

The workers are simulated: they take the measured time for a slab (docs/scale_out.md), and die at random. The
coordinator is a queue that serves one event at a time, as `jobs.cluster` does: it takes a result and chooses the next
slab with the same function. That function is timed here; dask's own share of an event is assumed.
"""

import argparse
import heapq
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_restore_rwkv.jobs.slabs import nearest_slab
from napari_restore_rwkv.scans.zarr.writing import ZarrLayout

SLABS, SLICES, WORKERS = 10_000, 16, (50, 200, 1000, 4000)
# Measured: 1.04 s a slice. Assumed: how much it varies, and what dask takes for a task (1 ms, its documentation says).
SECONDS_A_SLAB, SPREAD, DASK_SECONDS = 16 * 1.04, 0.2, 1e-3
# Assumed: a spot machine lives 5 hours on average, and another one takes its place after 3 minutes.
MEAN_LIFE, REPLACED_AFTER = 5 * 3600.0, 180.0
# dask gives up a task, and the coordinator the job, once this many workers beyond the first have died on it.
ALLOWED_FAILURES = 3
AHEAD = 2


@dataclass
class Outcome:
    """How a simulated job went: hours, parts of the time that workers and coordinator were busy, what was lost."""

    workers: int
    lives_hours: float
    hours: float
    workers_busy: float
    coordinator_busy: float
    deaths: int
    most_deaths_of_a_slab: int
    given_up: bool


def seconds_to_choose(waiting: int, repeats: int = 3) -> float:
    """CPU time of the coordinator's choice of the next slab, among this many."""
    layout = ZarrLayout((SLABS * SLICES, 512, 512), "int16", 0, SLICES, 2)
    slabs = set(range(SLABS - waiting, SLABS))
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        nearest_slab(layout, slabs, 0)
        times.append(time.process_time() - begun)
    return min(times)


def simulate(workers: int, mean_life: float, seconds_a_waiting_slab: float, seed: int = 0) -> Outcome:
    """Run a whole job through the queue.

    Every worker has one slab in progress and another one waiting, as the coordinator arranges it.
    """
    chance = random.Random(seed)
    waiting, deaths = list(range(SLABS)), dict.fromkeys(range(SLABS), 0)
    free_at, coordinating, working, finished, died, last = 0.0, 0.0, 0.0, 0, 0, 0.0
    # For each worker, its assigned slabs, each with its time of arrival.
    queued: list[list[tuple[float, int]]] = [[] for _ in range(workers)]
    events: list[tuple[float, int, str, int]] = []
    dies_at = [chance.expovariate(1 / mean_life) for _ in range(workers)]

    def choose(now: float) -> tuple[float, int] | None:
        """The coordinator's time for one event, and the slab that it assigns."""
        nonlocal free_at, coordinating
        cost = DASK_SECONDS + seconds_a_waiting_slab * len(waiting)
        free_at, coordinating = max(now, free_at) + cost, coordinating + cost
        return (free_at, waiting.pop()) if waiting else None

    def start(now: float, worker: int) -> None:
        nonlocal working
        if not queued[worker]:
            return
        arrives, slab = queued[worker][0]
        begins, takes = max(now, arrives), SECONDS_A_SLAB * chance.lognormvariate(0, SPREAD)
        if begins + takes < dies_at[worker]:
            working += takes
            heapq.heappush(events, (begins + takes, worker, "done", slab))
        else:
            heapq.heappush(events, (max(now, dies_at[worker]), worker, "died", slab))

    for worker in range(workers):
        for _ in range(AHEAD):
            if (given := choose(0.0)) is not None:
                queued[worker].append(given)
        start(0.0, worker)
    while events and finished < SLABS:
        now, worker, what, slab = heapq.heappop(events)
        last = now
        if what == "died":
            died, deaths[slab] = died + 1, deaths[slab] + 1
            if deaths[slab] > ALLOWED_FAILURES:
                break
            # dask reassigns the worker's slabs to others; here its successor takes them, which is slowest.
            dies_at[worker] = now + REPLACED_AFTER + chance.expovariate(1 / mean_life)
            start(now + REPLACED_AFTER, worker)
            continue
        finished += 1
        queued[worker].pop(0)
        if (given := choose(now)) is not None:
            queued[worker].append(given)
        start(now, worker)
    return Outcome(
        workers=workers,
        lives_hours=mean_life / 3600,
        hours=last / 3600,
        workers_busy=working / (workers * last),
        coordinator_busy=min(1.0, coordinating / last),
        deaths=died,
        most_deaths_of_a_slab=max(deaths.values()),
        given_up=finished < SLABS,
    )


def main() -> None:
    """Time the choice, then simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    chosen = {waiting: seconds_to_choose(waiting) for waiting in (100, 1000, SLABS)}
    print({waiting: f"{1e3 * seconds:.2f} ms" for waiting, seconds in chosen.items()})
    each = chosen[SLABS] / SLABS
    outcomes = [simulate(workers, MEAN_LIFE, each) for workers in WORKERS]
    outcomes += [simulate(200, life, each) for life in (600.0, 60.0)]
    for outcome in outcomes:
        print(asdict(outcome))
    if options.json:
        figures = {"seconds_to_choose": chosen, "outcomes": [asdict(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
