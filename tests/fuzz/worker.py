"""The watched process: damages a good file, opens it, says what happened, and goes on with the next.

One line an input on the standard output: its number, what happened, and more words, parted by tabs.
"""

import json
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np

from .families import FAMILIES, copied, pretended
from .mutations import flipped, mutated

# Beyond the file itself, in KiB as the system counts.
MOST_MEMORY_KIB = 2 << 20
_HARD_LIMIT = 3500 << 20
_SEALED_SHARE = 0.3


def main(family, seed, first, count):
    """Open inputs `first` to ``first + count - 1`` of a family."""
    warnings.simplefilter("ignore")
    out, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        (root / "good").mkdir()
        chosen = FAMILIES[family] if family in FAMILIES else pretended(family.removeprefix("pretended-"))
        seeds, read = chosen.make(root / "good"), chosen.read
        good = [_tried(read, seed_.path, root, None, None, True) for seed_ in seeds]
        for what, words, _ in good:
            if what != "read":
                raise SystemExit(f"a good file of the family {family} is not read: {words}")
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + _HARD_LIMIT,) * 2)
        base = _peak()
        print("ready", file=out, flush=True)
        for number in range(first, first + count):
            rng = np.random.default_rng([seed, number])
            at = int(rng.integers(len(seeds)))
            target = seeds[at].targets[rng.integers(len(seeds[at].targets))]
            content = target.read_bytes()
            share = 1 if family not in FAMILIES else _SEALED_SHARE
            sealed = target in seeds[at].sealed and rng.random() < share
            head = seeds[at].head(target)
            damaged = content[:head] + flipped(content[head:], rng) if sealed else mutated(content, rng, head)
            what, words, digest = _tried(read, seeds[at].path, root, target, damaged, number % 8 == 0)
            if what == "read" and sealed and digest != good[at][2]:
                what, words = "silent", f"{target.name} was damaged where a checksum covers it, and reads differently"
            peak = _peak()
            if peak - base > MOST_MEMORY_KIB:
                what, words = "memory", f"{(peak - base) >> 10} MiB more; {words}"
            base = max(base, peak)
            print(number, what, json.dumps(words), sep="\t", file=out, flush=True)


def _tried(read, good, root, target, damaged, thorough):
    """Open a copy of a good file or folder in which one file is damaged; return what happened, words, and a digest."""
    from napari_restore_rwkv.errors import RestoreError

    with tempfile.TemporaryDirectory(dir=root) as place:
        path = Path(place) / good.name
        if good.is_dir():
            copied(good, path)
        else:
            # What lies beside it, such as its voxels, stays there.
            for file in good.parent.iterdir():
                if file.is_file():
                    (Path(place) / file.name).hardlink_to(file)
        if target is not None:
            other = path / target.relative_to(good) if good.is_dir() else path
            other.unlink()
            other.write_bytes(damaged)
        try:
            return "read", "", read(path, thorough)
        except RestoreError as error:
            text = str(error)
            return ("refused" if text and "\n" not in text else "raw"), text, None
        except BaseException as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return (
                "raw",
                f"{type(error).__name__}: {str(error)[:200]} ({frame.filename.rsplit('/', 1)[-1]}:{frame.lineno})",
                None,
            )


def _peak():
    # What `getrusage` tells begins with the memory of the process that started this one.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def _address_space():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
