"""``python -m tests.fuzz --family mha --count 10000 --seed 1``: damaged files by the thousand, and figures of them."""

import argparse
import json
import sys
import time
from pathlib import Path

from .families import FAMILIES
from .watch import FAULTS, run, tally


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=[*FAMILIES, "all"], default="all")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each family")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat a single one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    figures, bad = {}, 0
    for family in FAMILIES if arguments.family == "all" else [arguments.family]:
        start = time.monotonic()
        counts, faults = tally(run(family, arguments.seed, arguments.first, arguments.count), _tell)
        figures[family] = {"inputs": sum(counts.values()), **counts, "faults": faults}
        print(f"{family}: {json.dumps(counts)} in {time.monotonic() - start:.0f} s", flush=True)
        bad += sum(counts.get(what, 0) for what in FAULTS)
    if arguments.json:
        arguments.json.write_text(json.dumps({"seed": arguments.seed, "families": figures}, indent=1) + "\n")
    return 1 if bad else 0


def _tell(fault):
    print(f"  input {fault['input']}: {fault['what']}: {fault['words']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
