"""The digests that a result of this program keeps of its own chunks, one line per slab, in ``job/done*.jsonl``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...untrusted import is_sha256, json_object, read_regular

if TYPE_CHECKING:
    from pathlib import Path

FOLDER, LINES = "job", "done*.jsonl"


def written_digests(path: Path) -> dict[str, set[str]]:
    """Return the sha256 of each file of a result by its name relative to the result; one of several has to match.

    A file that was written twice has two. Damaged lines are left out: `verify` reports them.
    """
    digests: dict[str, set[str]] = {}
    for file in sorted((path / FOLDER).glob(LINES)):
        try:
            content = read_regular(file)
        except (OSError, ValueError):
            continue
        for line in content.split(b"\n"):
            try:
                files = json_object(line).get("files")
            except ValueError:
                continue
            for name, digest in files.items() if isinstance(files, dict) else ():
                if is_sha256(digest):
                    digests.setdefault(str(name), set()).add(digest)
    return digests
