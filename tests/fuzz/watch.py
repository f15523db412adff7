"""Runs inputs in processes of their own, and says which of them crashed, hung, or went wrong in another way."""

import collections
import json
import os
import select
import subprocess
import sys
from pathlib import Path

# What may not happen; "read" and "refused" may.
FAULTS = ("crash", "hang", "memory", "raw", "silent")
PATIENCE_S = 20.0
_START_S = 300.0
_ROOT = Path(__file__).parent.parent.parent


def run(family, seed, first, count):
    """Yield (number, what, words) for each input; a process that dies is replaced behind the input that it died of."""
    at, end = first, first + count
    while at < end:
        command = [sys.executable, "-m", "tests.fuzz.worker", family, str(seed), str(at), str(end - at)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False, bufsize=0
        ) as process:
            lines = _lines(process)
            if next(lines) != "ready":
                process.kill()
                raise RuntimeError(f"the fuzzer itself does not start: {process.stderr.read().decode()[-2000:]}")
            for line in lines:
                if line in {"", "hang"}:
                    process.kill()
                    code = process.wait()
                    yield at, "hang" if line else "crash", "" if line else f"ended with {code}"
                    at += 1
                    break
                number, what, words = line.split("\t", 2)
                yield int(number), what, json.loads(words)
                at = int(number) + 1
                if at == end:
                    break


def _lines(process):
    """Yield lines; "" where the process has ended, "hang" where it says nothing for too long."""
    waiting, patience = b"", _START_S
    number = process.stdout.fileno()
    os.set_blocking(process.stderr.fileno(), False)
    while True:
        readable, _, _ = select.select([number, process.stderr.fileno()], [], [], patience)
        if not readable:
            yield "hang"
            return
        if number not in readable:
            # What libraries say there is of no interest, but it must not fill the pipe.
            if not process.stderr.read(1 << 16):
                process.wait()
                if not select.select([number], [], [], 0)[0]:
                    yield ""
                    return
            continue
        block = os.read(number, 1 << 16)
        if not block:
            yield ""
            return
        *whole, waiting = (waiting + block).split(b"\n")
        for line in whole:
            patience = PATIENCE_S
            yield line.decode()


def tally(results, tell=lambda fault: None):
    """Return how many inputs came to what, and the first of each kind of fault; `tell` gets these at once."""
    counts, faults, kinds = collections.Counter(), [], set()
    for number, what, words in results:
        counts[what] += 1
        kind = (what, words.split("(")[-1] if what == "raw" else words[:40])
        if what in FAULTS and kind not in kinds:
            kinds.add(kind)
            faults.append({"input": number, "what": what, "words": words})
            tell(faults[-1])
    return dict(counts), faults
