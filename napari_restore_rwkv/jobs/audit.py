"""Checks that a result on disk is intact, and marks it complete; neither needs a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from ..progress import Phase, Progress
from ..storage.durable import check_folder_of, sha256_of, writing_errors
from .digests import combined_digest
from .ledger import Ledger
from .lock import coordinating

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from .ledger import SlabRecord


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    slabs
        How many slabs the result has.
    missing
        Slabs that were never finished.
    bad
        What is wrong with each slab that is not as it was written.
    metadata
        Metadata files that are not as they were written.
    damaged_lines
        Lines of the ledger that are not as they were written.
    complete
        Whether the result is marked complete.
    """

    slabs: int
    missing: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    metadata: list[str] = field(default_factory=list)
    damaged_lines: int = 0
    complete: bool = False

    @property
    def sound(self) -> bool:
        """Whether everything is there, as it was written."""
        return self.complete and not (self.missing or self.bad or self.metadata or self.damaged_lines)


def verify(path: str | Path) -> Generator[Progress, None, Report]:
    """Read every file of a result and compare it with its digest; nothing is changed.

    Yields
    ------
    Progress
        In slabs.

    Raises
    ------
    OutputError
        This is not a result of this program, or its record is damaged.
    """
    path = Path(path)
    ledger = Ledger(path)
    done = ledger.done()
    slabs = range(ledger.layout.slabs)
    bad = yield from check_slabs(ledger, [slab for slab in slabs if slab in done], done)
    return Report(
        slabs=len(slabs),
        missing=[slab for slab in slabs if slab not in done],
        bad=bad,
        metadata=ledger.damaged_metadata(),
        damaged_lines=ledger.damaged_lines(),
        complete=ledger.is_complete(),
    )


def finalize(path: str | Path) -> Generator[Progress, None, dict[str, Any]]:
    """Check a result whose parts were restored separately, and mark it complete.

    Returns
    -------
    dict
        The provenance, the value of StopIteration.

    Raises
    ------
    OutputError
        Slabs are missing or damaged, or a part is still running.
    """
    path = Path(path)
    ledger = Ledger(path)
    with coordinating(ledger.folder, path.name), writing_errors(path.name, "finalize it again"):
        done = ledger.done()
        bad = yield from check_slabs(ledger, sorted(done), done)
        lacking = sorted({*(slab for slab in range(ledger.layout.slabs) if slab not in done), *bad})
        if lacking:
            raise OutputError(
                f"{path.name} is not finished: {len(lacking)} of {ledger.layout.slabs} slabs are missing or damaged "
                f"({numbers(lacking)}); run the parts that they belong to again, or the whole job with --resume."
            )
        ledger.clean()
        ledger.repair_metadata()
        return complete(ledger, done)


def check_place(path: Path, resume: bool) -> None:
    """Raise OutputError if a job cannot be started, or continued, here."""
    if path.is_dir() and any(path.iterdir()):
        if resume:
            return
        try:
            ledger = Ledger(path)
        except OutputError as error:
            raise OutputError(
                f"{path.name} already exists and was not written by this program: give another name."
            ) from error
        if ledger.is_complete():
            raise OutputError(f"{path.name} already exists and is complete: give another name.")
        raise OutputError(
            f"{path.name} already exists: it is a restoration with {len(ledger.done())} of {ledger.layout.slabs} slabs "
            "done. Continue it with --resume, or give another name."
        )
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path.name} is a file: give the name of a folder that does not exist yet.")
    check_folder_of(path)


def check_slabs(
    ledger: Ledger, slabs: Iterable[int], done: Mapping[int, list[SlabRecord]]
) -> Generator[Progress, None, dict[int, str]]:
    """Compare the files of finished slabs with their digests; the value says what is wrong, by slab."""
    wanted, bad = list(slabs), {}
    for count, slab in enumerate(wanted):
        yield Progress(Phase.CHECKING, count, len(wanted))
        # If a slab was done twice, one record has to match.
        wrong = [_damage_of(ledger, record) for record in done[slab]]
        if all(wrong):
            bad[slab] = wrong[-1]
    return bad


def complete(ledger: Ledger, done: Mapping[int, list[SlabRecord]]) -> dict[str, Any]:
    """Mark a result complete, once all its slabs are done and checked, and return its provenance."""
    slabs = range(ledger.layout.slabs)
    last = [done[slab][-1] for slab in slabs]
    runs = ledger.runs()
    record = {
        **ledger.record,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input_sha256": combined_digest(digest for slab in last for digest in slab.slices),
        "output_sha256": combined_digest(slab.files[name] for slab in last for name in sorted(slab.files)),
        # As after a restoration in memory, unless the runs differ.
        **(runs[0] if len(runs) == 1 else {"runs": runs}),
    }
    ledger.mark_complete(record)
    return record


def numbers(slabs: Iterable[int]) -> str:
    """Return a short list of numbers, such as "3, 4, 5, 6, 7 and 12 more"."""
    listed = list(slabs)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(map(str, listed[:5])) + more


def _damage_of(ledger: Ledger, record: SlabRecord) -> str:
    for name, digest in record.files.items():
        file = ledger.place(name)
        try:
            if file.exists() and not file.is_file():
                return f"{name} is not a file"
            if sha256_of(file) != digest:
                return f"{name} has changed"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return ""
