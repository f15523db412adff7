"""Run one job and kill it at random moments, then let it finish: killed_job.py OUTPUT KILLS SEED.

It is killed KILLS times, and on until a third of KILLS attempts have finished slabs.

Everything is imported once; each attempt is a fork of this process, which starts no thread of its own. Attempts get
longer or shorter, so that the kills fall all over the job however fast the machine is. Prints the number of kills that
met a living process, and how many slabs had a line in the ledger after each of them.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import zarr  # noqa: F401 - so that no attempt has to import it
from small_jobs import LONG, lines, run_to_end


def attempt(path):
    """Fork a process that does the job; return its id."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            run_to_end(path)
            os._exit(0)
        finally:
            os._exit(1)
    return child


def main(path, kills, seed):
    """Kill as many attempts as the description of this file says, then wait for one."""
    chance = random.Random(seed)
    counts, longest = [0], 0.3
    while len(counts) <= kills or len(set(counts)) <= kills // 3:
        child = attempt(path)
        time.sleep(chance.uniform(0.0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the job ended with {status} after {len(counts)} kills: it is too short")
        counts.append(sum('"unit"' in line for line in lines(path)))
        fair_share = (LONG["slices"] - counts[-2]) / max(kills + 3 - len(counts), kills // 3)
        longest *= 0.8 if counts[-1] - counts[-2] > fair_share else 1.1
    _, status = os.waitpid(attempt(path), 0)
    print(json.dumps({"kills": len(counts) - 1, "lines": counts, "status": status}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
