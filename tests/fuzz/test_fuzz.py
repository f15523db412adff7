"""A few damaged files of each family; ``python -m tests.fuzz`` opens them by the thousand."""

import pytest

from . import watch
from .families import FAMILIES
from .watch import FAULTS, run, tally

pytestmark = pytest.mark.slow

# Enough to see that a family is read at all, and few enough for every run of the suite.
COUNT = 30


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_files_are_read_or_refused_in_a_sentence(family, monkeypatch):
    # Whether a file takes too long is measured by the thousand on a machine without other work.
    monkeypatch.setattr(watch, "PATIENCE_S", 120)
    counts, faults = tally(run(family, 20, 0, COUNT))
    assert sum(counts.values()) == COUNT
    assert not faults
    assert counts.get("refused", 0) > 0


@pytest.mark.parametrize("what", FAULTS)
def test_the_watch_sees_each_fault(what, monkeypatch):
    # Beside other work, nothing but what sleeps for ever takes longer than that.
    monkeypatch.setattr(watch, "PATIENCE_S", 10 if what == "hang" else 300)
    counts, [fault] = tally(run(f"pretended-{what}", 1, 0, 3))
    assert counts == {what: 1, "read": 2}
    assert fault["input"] == 1
